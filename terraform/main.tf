# The runner stands in Chicago, near the exchange; everything that keeps data stands in the parent region.

locals {
  name = "${var.name}-${var.environment}"
}

module "keys" {
  source = "./modules/keys"
  name   = local.name
}

module "network" {
  source             = "./modules/network"
  name               = local.name
  cidr               = var.vpc_cidr
  local_zone         = var.local_zone
  key_arn            = module.keys.arn
  log_retention_days = var.log_retention_days
}

module "storage" {
  source  = "./modules/storage"
  name    = local.name
  key_arn = module.keys.arn
}

module "secrets" {
  source  = "./modules/secrets"
  name    = local.name
  key_arn = module.keys.arn
}

module "database" {
  source             = "./modules/database"
  name               = local.name
  class              = var.database_class
  multi_az           = var.database_multi_az
  vpc_id             = module.network.vpc_id
  subnet_ids         = module.network.database_subnet_ids
  client_group_id    = module.runner.security_group_id
  key_arn            = module.keys.arn
  log_retention_days = var.log_retention_days
}

module "runner" {
  source           = "./modules/runner"
  name             = local.name
  environment      = var.environment
  region           = var.region
  instance_type    = var.instance_type
  volume_type      = var.volume_type
  data_volume_gb   = var.data_volume_gb
  local_zone       = var.local_zone
  border_group     = module.network.border_group
  vpc_id           = module.network.vpc_id
  vpc_cidr         = var.vpc_cidr
  subnet_id        = module.network.runner_subnet_id
  image            = var.image
  gateway_image    = var.gateway_image
  ib_username      = var.ib_username
  ib_account       = var.ib_account
  live_money       = var.live_money
  live_confirm     = var.live_confirm
  repository_arn   = module.storage.repository_arn
  bucket_arns      = module.storage.bucket_arns
  buckets          = module.storage.buckets
  secret_arns      = module.secrets.arns
  database_host    = module.database.host
  database_secret  = module.database.secret_arn
  key_arn          = module.keys.arn
  log_group        = module.observability.log_group
  log_group_arn    = module.observability.log_group_arn
  metric_namespace = local.name
}

module "observability" {
  source             = "./modules/observability"
  name               = local.name
  region             = var.region
  alarm_email        = var.alarm_email
  instance_id        = module.runner.instance_id
  database_id        = module.database.id
  key_arn            = module.keys.arn
  metric_namespace   = local.name
  stale_after_sec    = var.stale_after_sec
  monthly_budget_usd = var.monthly_budget_usd
  log_retention_days = var.log_retention_days
}

module "schedule" {
  source       = "./modules/schedule"
  count        = var.weekend_stop ? 1 : 0
  name         = local.name
  instance_id  = module.runner.instance_id
  instance_arn = module.runner.instance_arn
  alarms       = module.observability.session_alarms
  alarm_arns   = module.observability.session_alarm_arns
  key_arn      = module.keys.arn
}
