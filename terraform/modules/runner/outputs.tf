output "instance_id" {
  description = "The runner."
  value       = aws_instance.runner.id
}

output "instance_arn" {
  description = "For the right to stop and start it."
  value       = aws_instance.runner.arn
}

output "public_ip" {
  description = "Address of its outgoing connections."
  value       = aws_eip.runner.public_ip
}

output "security_group_id" {
  description = "May reach the database."
  value       = aws_security_group.runner.id
}
