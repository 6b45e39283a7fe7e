# Durable storage for raw market data and run artifacts: private, encrypted, versioned. The runner is not part of this yet.
terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  region = var.region
}

variable "region" {
  description = "Parent region of the Chicago local zone us-east-1-chi-2a."
  type        = string
  default     = "us-east-1"
}

variable "bucket_prefix" {
  description = "Prefix of the bucket names, globally unique, lower case."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{2,40}$", var.bucket_prefix))
    error_message = "bucket_prefix must be 3 to 41 lower-case letters, digits or hyphens."
  }
}

locals {
  buckets = toset(["data", "artifacts"])
}

resource "aws_s3_bucket" "store" {
  for_each = local.buckets
  bucket   = "${var.bucket_prefix}-${each.key}"
}

resource "aws_s3_bucket_versioning" "store" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.store[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  for_each = local.buckets
  bucket   = aws_s3_bucket.store[each.key].id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "aws:kms"
    }
    bucket_key_enabled = true
  }
}

resource "aws_s3_bucket_public_access_block" "store" {
  for_each                = local.buckets
  bucket                  = aws_s3_bucket.store[each.key].id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

output "buckets" {
  description = "Names of the data and artifact buckets."
  value       = { for key, bucket in aws_s3_bucket.store : key => bucket.bucket }
}
