# Friday after the close the runner stops, Sunday before the open it starts, in New York time whatever the season. The alarms on its
# silence sleep with it. IB re-authenticates once a week after Sunday 01:00, so the login of the week happens on a machine that is up.

variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "instance_id" {
  description = "The runner."
  type        = string
}

variable "instance_arn" {
  description = "Its ARN."
  type        = string
}

variable "alarms" {
  description = "Alarms that sleep with it."
  type        = list(string)
}

variable "alarm_arns" {
  description = "Their ARNs."
  type        = list(string)
}

variable "key_arn" {
  description = "Customer key."
  type        = string
}

locals {
  instance = jsonencode({ InstanceIds = [var.instance_id] })
  alarms   = jsonencode({ AlarmNames = var.alarms })
  steps = {
    alarms-sleep = { cron = "cron(20 17 ? * FRI *)", call = "cloudwatch:disableAlarmActions", input = local.alarms }
    stop         = { cron = "cron(30 17 ? * FRI *)", call = "ec2:stopInstances", input = local.instance }
    start        = { cron = "cron(30 15 ? * SUN *)", call = "ec2:startInstances", input = local.instance }
    alarms-wake  = { cron = "cron(0 16 ? * SUN *)", call = "cloudwatch:enableAlarmActions", input = local.alarms }
  }
}

resource "aws_iam_role" "schedule" {
  name = "${var.name}-schedule"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "scheduler.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy" "schedule" {
  role = aws_iam_role.schedule.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      { Effect = "Allow", Action = ["ec2:StopInstances", "ec2:StartInstances"], Resource = var.instance_arn },
      { Effect = "Allow", Action = ["cloudwatch:DisableAlarmActions", "cloudwatch:EnableAlarmActions"], Resource = var.alarm_arns },
      { Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey", "kms:CreateGrant"], Resource = var.key_arn }, # start from encrypted volumes
    ]
  })
}

resource "aws_scheduler_schedule" "step" {
  for_each                     = local.steps
  name                         = "${var.name}-${each.key}"
  schedule_expression          = each.value.cron
  schedule_expression_timezone = "America/New_York"
  kms_key_arn                  = var.key_arn

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = "arn:aws:scheduler:::aws-sdk:${each.value.call}"
    role_arn = aws_iam_role.schedule.arn
    input    = each.value.input

    retry_policy {
      maximum_retry_attempts = 10
    }
  }
}

output "expressions" {
  description = "What happens when, New York time."
  value       = { for key, step in local.steps : key => step.cron }
}
