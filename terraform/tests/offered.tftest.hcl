# The zone is asked what it offers: a type that passes the family rule may still be missing there.

mock_provider "aws" {
  mock_resource "aws_ebs_volume" {
    defaults        = { id = "vol-0123456789abcdef0" }
    override_during = plan
  }
  mock_data "aws_ec2_instance_type_offerings" {
    defaults = { instance_types = ["m6i.large"] }
  }
}

run "refuses_a_type_that_is_not_offered" {
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
    image            = "registry.example/mcl@sha256:0"
    gateway_image    = "registry.example/gateway@sha256:0"
    ib_username      = "paper-login"
    ib_account       = "DU1234567"
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
  expect_failures = [aws_instance.runner]
}
