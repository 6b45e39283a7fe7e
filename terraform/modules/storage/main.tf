# Buckets of market data, artifacts and access logs, and the repository of the image. All in the parent region: local zones have none.

variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "key_arn" {
  description = "Customer key of the buckets."
  type        = string
}

data "aws_caller_identity" "this" {}

locals {
  stores  = toset(["data", "artifacts"])
  buckets = { data = aws_s3_bucket.store["data"], artifacts = aws_s3_bucket.store["artifacts"], logs = aws_s3_bucket.logs }
}

resource "aws_s3_bucket" "store" {
  # checkov:skip=CKV_AWS_144: one region on purpose; versions and backups protect against mistakes, a lost region stops trading anyway
  # checkov:skip=CKV2_AWS_62: nobody waits for events of these buckets
  for_each = local.stores
  bucket   = "${var.name}-${each.key}"
}

resource "aws_s3_bucket" "logs" {
  # checkov:skip=CKV_AWS_18: it holds the access logs itself
  # checkov:skip=CKV_AWS_21: append-only by its writer; versions of logs would be copies
  # checkov:skip=CKV_AWS_144: as above
  # checkov:skip=CKV_AWS_145: log delivery can write to SSE-S3 buckets only
  # checkov:skip=CKV2_AWS_62: as above
  bucket = "${var.name}-logs"
}

resource "aws_s3_bucket_versioning" "store" {
  for_each = local.stores
  bucket   = aws_s3_bucket.store[each.key].id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "store" {
  for_each = local.stores
  bucket   = aws_s3_bucket.store[each.key].id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = var.key_arn
    }
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    apply_server_side_encryption_by_default {
      sse_algorithm = "AES256"
    }
  }
}

resource "aws_s3_bucket_public_access_block" "all" {
  for_each                = local.buckets
  bucket                  = each.value.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_ownership_controls" "all" {
  for_each = local.buckets
  bucket   = each.value.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_logging" "store" {
  for_each      = local.stores
  bucket        = aws_s3_bucket.store[each.key].id
  target_bucket = aws_s3_bucket.logs.id
  target_prefix = "${each.key}/"
}

resource "aws_s3_bucket_policy" "all" {
  for_each = local.buckets
  bucket   = each.value.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = concat(
      [{
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = [each.value.arn, "${each.value.arn}/*"]
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      }],
      each.key != "logs" ? [] : [{
        Sid       = "AccessLogsOfOurBuckets"
        Effect    = "Allow"
        Principal = { Service = "logging.s3.amazonaws.com" }
        Action    = "s3:PutObject"
        Resource  = "${each.value.arn}/*"
        Condition = { StringEquals = { "aws:SourceAccount" = data.aws_caller_identity.this.account_id } }
      }],
    )
  })
}

# Market data are bought once and read rarely; artifacts of runs cool down; nothing current is ever deleted here.
resource "aws_s3_bucket_lifecycle_configuration" "store" {
  for_each = local.stores
  bucket   = aws_s3_bucket.store[each.key].id

  rule {
    id     = "cool-down"
    status = "Enabled"

    filter {}

    transition {
      days          = 60
      storage_class = "STANDARD_IA"
    }

    noncurrent_version_transition {
      noncurrent_days = 30
      storage_class   = "STANDARD_IA"
    }

    noncurrent_version_expiration {
      noncurrent_days           = 180
      newer_noncurrent_versions = 3
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }

  depends_on = [aws_s3_bucket_versioning.store]
}

resource "aws_s3_bucket_lifecycle_configuration" "logs" {
  bucket = aws_s3_bucket.logs.id

  rule {
    id     = "a-year"
    status = "Enabled"

    filter {}

    expiration {
      days = 400
    }

    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }
  }
}

resource "aws_ecr_repository" "mcl" {
  name                 = var.name
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = var.key_arn
  }
}

resource "aws_ecr_lifecycle_policy" "mcl" {
  repository = aws_ecr_repository.mcl.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "the last twenty images can be rolled back to"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 20 }
      action       = { type = "expire" }
    }]
  })
}

output "buckets" {
  description = "Names by purpose."
  value       = { for key, bucket in local.buckets : key => bucket.bucket }
}

output "bucket_arns" {
  description = "ARNs by purpose."
  value       = { for key, bucket in local.buckets : key => bucket.arn }
}

output "repository_url" {
  description = "Where the image is pushed."
  value       = aws_ecr_repository.mcl.repository_url
}

output "repository_arn" {
  description = "For the runner's right to pull."
  value       = aws_ecr_repository.mcl.arn
}
