# Plans without credentials: terraform init -backend=false && terraform test

mock_provider "aws" {
  mock_data "aws_ec2_instance_type_offerings" {
    defaults = { instance_types = ["c6i.large", "c6i.xlarge", "m6i.large"] }
  }
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_region" {
    defaults = { name = "us-east-1" }
  }
  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:us-east-1:123456789012:log-group:/acme" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/acme" }
  }
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:us-east-1:123456789012:key/1" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:us-east-1:123456789012:acme" }
  }
  mock_resource "aws_s3_bucket" {
    defaults = { arn = "arn:aws:s3:::acme" }
  }
  mock_resource "aws_instance" {
    defaults = { arn = "arn:aws:ec2:us-east-1:123456789012:instance/i-0123456789abcdef0" }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:acme" }
  }
  mock_resource "aws_cloudwatch_metric_alarm" {
    defaults = { arn = "arn:aws:cloudwatch:us-east-1:123456789012:alarm:acme" }
  }
  mock_resource "aws_ebs_volume" {
    defaults        = { id = "vol-0123456789abcdef0" }
    override_during = plan
  }
  mock_resource "aws_ecr_repository" {
    defaults = { arn = "arn:aws:ecr:us-east-1:123456789012:repository/acme" }
  }
  mock_resource "aws_db_instance" {
    defaults = { master_user_secret = [{ secret_arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds", kms_key_id = "", secret_status = "active" }] }
  }
}

variables {
  name          = "acme-mcl"
  image         = "123456789012.dkr.ecr.us-east-1.amazonaws.com/acme-mcl-paper@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  gateway_image = "ghcr.io/gnzsnz/ib-gateway@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  alarm_email   = "trader@example.com"
  ib_username   = "paper-login"
  ib_account    = "DU1234567"
}

run "network" {
  command = apply
  module {
    source = "./modules/network"
  }
  variables {
    name               = "acme"
    cidr               = "10.61.0.0/16"
    local_zone         = "us-east-1-chi-2a"
    key_arn            = "arn:aws:kms:us-east-1:123456789012:key/1"
    log_retention_days = 400
  }

  assert {
    condition     = aws_ec2_availability_zone_group.local.group_name == "us-east-1-chi-2" && aws_ec2_availability_zone_group.local.opt_in_status == "opted-in"
    error_message = "the local zone is opt-in: its group must be opted into"
  }
  assert {
    condition     = aws_subnet.runner.availability_zone == "us-east-1-chi-2a" && aws_subnet.runner.cidr_block == "10.61.0.0/24"
    error_message = "the runner's subnet lies in the local zone"
  }
  assert {
    condition     = [for s in aws_subnet.database : s.cidr_block] == ["10.61.1.0/24", "10.61.2.0/24"] && aws_subnet.database[0].availability_zone == "us-east-1a"
    error_message = "the database's subnets lie in two zones of the region: RDS does not exist in the local zone"
  }
  assert {
    condition     = !aws_subnet.runner.map_public_ip_on_launch && length(aws_route_table.database.route) == 0
    error_message = "no subnet hands out addresses, and the database has no way out"
  }
}

run "runner" {
  command = plan
  module {
    source = "./modules/runner"
  }
  variables {
    name             = "acme"
    environment      = "paper"
    region           = "us-east-1"
    local_zone       = "us-east-1-chi-2a"
    border_group     = "us-east-1-chi-2"
    vpc_id           = "vpc-1"
    vpc_cidr         = "10.61.0.0/16"
    subnet_id        = "subnet-1"
    instance_type    = "c6i.large"
    volume_type      = "gp3"
    data_volume_gb   = 50
    repository_arn   = "arn:aws:ecr:us-east-1:123456789012:repository/acme"
    buckets          = { data = "acme-data", artifacts = "acme-artifacts" }
    bucket_arns      = { data = "arn:aws:s3:::acme-data", artifacts = "arn:aws:s3:::acme-artifacts" }
    secret_arns      = { ib_password = "arn:aws:secretsmanager:us-east-1:123456789012:secret:acme/ib_password" }
    database_host    = "db.example"
    database_secret  = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds"
    key_arn          = "arn:aws:kms:us-east-1:123456789012:key/1"
    log_group        = "/acme/stack"
    log_group_arn    = "arn:aws:logs:us-east-1:123456789012:log-group:/acme/stack"
    metric_namespace = "acme"
  }

  assert {
    condition     = aws_instance.runner.metadata_options[0].http_tokens == "required"
    error_message = "IMDSv2 only"
  }
  assert {
    condition     = aws_instance.runner.root_block_device[0].encrypted && aws_ebs_volume.data.encrypted
    error_message = "both volumes are encrypted"
  }
  assert {
    condition     = aws_ebs_volume.data.availability_zone == "us-east-1-chi-2a" && aws_eip.runner.network_border_group == "us-east-1-chi-2"
    error_message = "volume and address belong to the local zone"
  }
  assert {
    condition     = toset([for rule in aws_vpc_security_group_egress_rule.runner : rule.from_port]) == toset([80, 443, 4000, 5432, 13000])
    error_message = "the runner reaches AWS, registries, the broker, Databento and its database, nothing else"
  }
  assert {
    condition = alltrue([
      for s in jsondecode(aws_iam_role_policy.runner.policy).Statement :
      s.Resource != "*" || contains(["LogInToTheRegistry", "Heartbeat"], s.Sid)
    ])
    error_message = "only two rights may name every resource: AWS knows no narrower form of them"
  }
  assert {
    condition     = alltrue([for s in jsondecode(aws_iam_role_policy.runner.policy).Statement : !anytrue([for a in flatten([s.Action]) : endswith(a, "*")])])
    error_message = "no right is a pattern"
  }
  assert {
    condition     = strcontains(aws_s3_object.environment.content, "COMPOSE_PROFILES=aws-paper\n") && !strcontains(aws_s3_object.environment.content, "secretsmanager")
    error_message = "the stack is told its mode, and no secret"
  }
  assert {
    condition     = !strcontains(aws_s3_object.environment.content, "LIVE")
    error_message = "a paper stack holds no lock of live money"
  }
  assert {
    condition     = strcontains(aws_instance.runner.user_data, "serial=\"vol0123456789abcdef0\"") && strcontains(aws_instance.runner.user_data, "exec -T runner mcl-read-metrics")
    error_message = "the data volume is known by its serial number, the heartbeat asks the session"
  }
  assert {
    condition     = strcontains(aws_instance.runner.user_data, "ib_password=arn:aws:secretsmanager") && !strcontains(aws_instance.runner.user_data, "SecretString\":")
    error_message = "user data name secrets, they never hold one"
  }
}

run "live" {
  command = plan
  module {
    source = "./modules/runner"
  }
  variables {
    name             = "acme"
    environment      = "live"
    live_money       = true
    live_confirm     = "U1234567"
    ib_account       = "U1234567"
    region           = "us-east-1"
    local_zone       = "us-east-1-chi-2a"
    border_group     = "us-east-1-chi-2"
    vpc_id           = "vpc-1"
    vpc_cidr         = "10.61.0.0/16"
    subnet_id        = "subnet-1"
    instance_type    = "c6i.large"
    volume_type      = "gp3"
    data_volume_gb   = 50
    repository_arn   = "arn:aws:ecr:us-east-1:123456789012:repository/acme"
    buckets          = { data = "acme-data", artifacts = "acme-artifacts" }
    bucket_arns      = { data = "arn:aws:s3:::acme-data", artifacts = "arn:aws:s3:::acme-artifacts" }
    secret_arns      = {}
    database_host    = "db.example"
    database_secret  = "arn:aws:secretsmanager:us-east-1:123456789012:secret:rds"
    key_arn          = "arn:aws:kms:us-east-1:123456789012:key/1"
    log_group        = "/acme/stack"
    log_group_arn    = "arn:aws:logs:us-east-1:123456789012:log-group:/acme/stack"
    metric_namespace = "acme"
  }

  assert {
    condition = alltrue([
      for line in ["COMPOSE_PROFILES=aws-live", "MCL_IB_LIVE_ACCOUNT=U1234567", "MCL_LIVE_CONFIRM=U1234567", "MCL_LIVE=1"] :
      contains(split("\n", aws_s3_object.environment.content), line)
    ])
    error_message = "a live stack is told its profile, its account twice and its lock"
  }
  assert {
    condition     = strcontains(aws_instance.runner.user_data, "exec -T runner-live mcl-read-metrics")
    error_message = "the heartbeat of a live stack asks the live session"
  }
}

run "live_needs_its_locks" {
  command = plan
  variables {
    environment = "live"
    ib_account  = "U1234567"
  }
  expect_failures = [var.live_money, var.live_confirm]
}

run "live_takes_no_paper_account" {
  command = plan
  variables {
    environment  = "live"
    live_money   = true
    live_confirm = "DU1234567"
  }
  expect_failures = [var.ib_account]
}

run "paper_takes_no_lock_of_live_money" {
  command = plan
  variables {
    live_money   = true
    live_confirm = "DU1234567"
  }
  expect_failures = [var.live_money, var.live_confirm]
}

run "closed_to_the_world" {
  command = plan

  assert {
    condition     = module.schedule[0].expressions["stop"] == "cron(30 17 ? * FRI *)" && module.schedule[0].expressions["start"] == "cron(30 15 ? * SUN *)"
    error_message = "the runner rests from Friday 17:30 to Sunday 15:30 New York"
  }
  assert {
    condition     = length(module.observability.session_alarms) == 4
    error_message = "dead, stale, halted and unexplained are alarms"
  }
  assert {
    condition     = module.storage.buckets["artifacts"] == "acme-mcl-paper-artifacts"
    error_message = "bucket names carry the environment"
  }
}

run "refuses_a_region_that_is_no_parent" {
  command = plan
  variables {
    region = "us-east-2"
  }
  expect_failures = [var.region]
}

run "refuses_what_cannot_work" {
  command = plan
  variables {
    image              = "registry.example/mcl:latest"
    instance_type      = "t3.micro"
    volume_type        = "io2"
    monthly_budget_usd = 5
    name               = "Acme_MCL"
    alarm_email        = "nobody"
    stale_after_sec    = 5
    log_retention_days = 30
    environment        = "production"
    vpc_cidr           = "10.61.0.0/24"
  }
  expect_failures = [
    var.image,
    var.instance_type,
    var.volume_type,
    var.monthly_budget_usd,
    var.name,
    var.alarm_email,
    var.stale_after_sec,
    var.log_retention_days,
    var.environment,
    var.vpc_cidr,
  ]
}

run "refuses_what_is_no_local_zone_and_live_money_on_paper" {
  command = plan
  variables {
    local_zone = "us-east-1a"
    ib_account = "U1234567" # live money in a paper environment
  }
  expect_failures = [var.local_zone, var.ib_account]
}
