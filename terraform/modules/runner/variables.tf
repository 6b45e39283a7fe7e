variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "environment" {
  description = "paper or live."
  type        = string
}

variable "region" {
  description = "Parent region."
  type        = string
}

variable "local_zone" {
  description = "Where the runner stands."
  type        = string
}

variable "border_group" {
  description = "Group of the public address, the local zone without its letter."
  type        = string
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "vpc_cidr" {
  description = "Its range: PostgreSQL is reached inside it."
  type        = string
}

variable "subnet_id" {
  description = "Subnet in the local zone."
  type        = string
}

variable "instance_type" {
  description = "EC2 type; must be offered by the local zone."
  type        = string
}

variable "volume_type" {
  description = "EBS type of both volumes."
  type        = string
}

variable "data_volume_gb" {
  description = "Size of the volume with runs, journals and market data."
  type        = number
}

variable "image" {
  description = "The mcl image by digest."
  type        = string
}

variable "gateway_image" {
  description = "The IB Gateway image by digest."
  type        = string
}

variable "repository_arn" {
  description = "Repository of the mcl image."
  type        = string
}

variable "buckets" {
  description = "Bucket names by purpose."
  type        = map(string)
}

variable "bucket_arns" {
  description = "Bucket ARNs by purpose."
  type        = map(string)
}

variable "secret_arns" {
  description = "Secrets by the file name that the containers know."
  type        = map(string)
}

variable "database_host" {
  description = "PostgreSQL of MLflow."
  type        = string
}

variable "database_secret" {
  description = "Secret with its user and password."
  type        = string
}

variable "key_arn" {
  description = "Customer key."
  type        = string
}

variable "log_group" {
  description = "Where containers log."
  type        = string
}

variable "log_group_arn" {
  description = "Its ARN."
  type        = string
}

variable "metric_namespace" {
  description = "CloudWatch namespace of the heartbeat."
  type        = string
}

variable "ib_username" {
  description = "Interactive Brokers login."
  type        = string
}

variable "ib_account" {
  description = "Account that the session may trade."
  type        = string
}

variable "live_money" {
  description = "MCL_LIVE=1, one of the three locks of live money."
  type        = bool
  default     = false
}

variable "live_confirm" {
  description = "The account id once more, another lock."
  type        = string
  default     = ""
}
