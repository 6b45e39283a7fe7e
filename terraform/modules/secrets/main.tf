# Empty drawers. Values are put in by hand and never pass through Terraform: its state would keep them in clear.

variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "key_arn" {
  description = "Customer key."
  type        = string
}

locals {
  drawers = {
    databento_api_key = "Databento API key; empty for synthetic data"
    ib_password       = "Password of the Interactive Brokers login in ib_username"
    mlflow_password   = "Password of the MLflow user admin"
    grafana_password  = "Password of the Grafana user admin"
    alert_webhook_url = "Address to which the session and the alarms of the stack are posted"
    alert_urls        = "Addresses of Slack, Discord, Telegram, ntfy, PagerDuty for alerts and alarms, with blanks between them"
  }
}

resource "aws_secretsmanager_secret" "drawer" {
  # checkov:skip=CKV2_AWS_57: passwords of outside parties and of a person; no function of AWS can rotate them, the handbook says when to
  for_each                = local.drawers
  name                    = "${var.name}/${each.key}"
  description             = each.value
  kms_key_id              = var.key_arn
  recovery_window_in_days = 7
}

output "arns" {
  description = "By file name as the containers know them."
  value       = { for key, secret in aws_secretsmanager_secret.drawer : key => secret.arn }
}

output "names" {
  description = "Names to fill."
  value       = [for secret in aws_secretsmanager_secret.drawer : secret.name]
}
