output "buckets" {
  description = "Names of the data, artifact and log buckets."
  value       = module.storage.buckets
}

output "repository_url" {
  description = "Where the image is pushed."
  value       = module.storage.repository_url
}

output "instance_id" {
  description = "The runner: aws ssm start-session --target INSTANCE_ID. No port is open."
  value       = module.runner.instance_id
}

output "runner_ip" {
  description = "Address from which the runner reaches the broker; put it into the broker's IP restriction."
  value       = module.runner.public_ip
}

output "database_host" {
  description = "PostgreSQL of MLflow, reachable from the runner only."
  value       = module.database.host
}

output "secret_names" {
  description = "Secrets to fill by hand: aws secretsmanager put-secret-value --secret-id NAME --secret-string file://…"
  value       = module.secrets.names
}

output "mlflow_tunnel" {
  description = "Opens MLflow on this machine's port 5000 through SSM."
  value       = "aws ssm start-session --target ${module.runner.instance_id} --document-name AWS-StartPortForwardingSession --parameters portNumber=5000,localPortNumber=5000"
}
