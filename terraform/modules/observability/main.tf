# Logs, alarms and the budget. The metrics come from the heartbeat of the runner; what is missing is alarming by itself.

variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "region" {
  description = "For the recover action."
  type        = string
}

variable "alarm_email" {
  description = "Who is told."
  type        = string
}

variable "instance_id" {
  description = "The runner."
  type        = string
}

variable "database_id" {
  description = "The MLflow database."
  type        = string
}

variable "key_arn" {
  description = "Customer key."
  type        = string
}

variable "metric_namespace" {
  description = "Where the heartbeat writes."
  type        = string
}

variable "stale_after_sec" {
  description = "Oldest acceptable newest bar while trading."
  type        = number
}

variable "monthly_budget_usd" {
  description = "Budget of a month."
  type        = number
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}

data "aws_caller_identity" "this" {}

resource "aws_cloudwatch_log_group" "stack" {
  name              = "/${var.name}/stack"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.key_arn
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = var.key_arn
}

resource "aws_sns_topic_policy" "alarms" {
  arn = aws_sns_topic.alarms.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsAndBudgetsOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com"] }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alarms.arn
      Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.this.account_id } }
    }]
  })
}

resource "aws_sns_topic_subscription" "email" {
  topic_arn = aws_sns_topic.alarms.arn
  protocol  = "email"
  endpoint  = var.alarm_email
}

locals {
  # Alarms on what the session says. They sleep while the schedule has stopped the runner.
  session = {
    runner-dead = {
      metric = "heartbeat", statistic = "SampleCount", comparison = "LessThanThreshold", threshold = 1, missing = "breaching"
      text   = "no heartbeat for five minutes: the session, its container or the machine is gone; positions stand with their stops at the broker"
    }
    data-stale = {
      metric = "mcl_data_age_seconds", statistic = "Minimum", comparison = "GreaterThanThreshold", threshold = var.stale_after_sec, missing = "notBreaching"
      text   = "the newest bar is too old while a session trades"
    }
    halted = {
      metric = "mcl_halted", statistic = "Maximum", comparison = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      text   = "the session halted: something is unknown, a person must say adopt or flatten"
    }
    audit-unexplained = {
      metric = "mcl_audit_unexplained", statistic = "Maximum", comparison = "GreaterThanThreshold", threshold = 0, missing = "notBreaching"
      text   = "the last audit found a difference between session and backtest that it cannot explain"
    }
  }
  # Alarms on the machine; the action does what a person would do first.
  machine = {
    recover = { metric = "StatusCheckFailed_System", action = "recover" }
    reboot  = { metric = "StatusCheckFailed_Instance", action = "reboot" }
  }
}

resource "aws_cloudwatch_metric_alarm" "session" {
  for_each            = local.session
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.text
  namespace           = var.metric_namespace
  metric_name         = each.value.metric
  statistic           = each.value.statistic
  comparison_operator = each.value.comparison
  threshold           = each.value.threshold
  treat_missing_data  = each.value.missing
  period              = 60
  evaluation_periods  = each.key == "runner-dead" ? 5 : 3
  alarm_actions       = [aws_sns_topic.alarms.arn]
  ok_actions          = [aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_metric_alarm" "machine" {
  for_each            = local.machine
  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.metric} twice in a row: ${each.value.action}"
  namespace           = "AWS/EC2"
  metric_name         = each.value.metric
  dimensions          = { InstanceId = var.instance_id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "missing"
  period              = 60
  evaluation_periods  = each.key == "reboot" ? 3 : 2
  alarm_actions       = ["arn:aws:automate:${var.region}:ec2:${each.value.action}", aws_sns_topic.alarms.arn]
}

resource "aws_cloudwatch_metric_alarm" "database_space" {
  alarm_name          = "${var.name}-database-space"
  alarm_description   = "less than 2 GiB left for MLflow although its storage grows by itself"
  namespace           = "AWS/RDS"
  metric_name         = "FreeStorageSpace"
  dimensions          = { DBInstanceIdentifier = var.database_id }
  statistic           = "Minimum"
  comparison_operator = "LessThanThreshold"
  threshold           = 2 * 1024 * 1024 * 1024
  treat_missing_data  = "missing"
  period              = 300
  evaluation_periods  = 3
  alarm_actions       = [aws_sns_topic.alarms.arn]
}

resource "aws_budgets_budget" "month" {
  name         = var.name
  budget_type  = "COST"
  limit_amount = tostring(var.monthly_budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  notification {
    comparison_operator       = "GREATER_THAN"
    notification_type         = "ACTUAL"
    threshold                 = 80
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
  }

  notification {
    comparison_operator       = "GREATER_THAN"
    notification_type         = "FORECASTED"
    threshold                 = 100
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [aws_sns_topic.alarms.arn]
  }
}

output "log_group" {
  description = "Where containers log."
  value       = aws_cloudwatch_log_group.stack.name
}

output "log_group_arn" {
  description = "Its ARN."
  value       = aws_cloudwatch_log_group.stack.arn
}

output "topic_arn" {
  description = "Alarms go here; subscribe whatever wakes you."
  value       = aws_sns_topic.alarms.arn
}

output "session_alarms" {
  description = "Names of the alarms that sleep with the runner."
  value       = [for alarm in aws_cloudwatch_metric_alarm.session : alarm.alarm_name]
}

output "session_alarm_arns" {
  description = "Their ARNs."
  value       = [for alarm in aws_cloudwatch_metric_alarm.session : alarm.arn]
}
