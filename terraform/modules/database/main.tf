# PostgreSQL for MLflow and for searches over several hosts. Its password is made and rotated by RDS, inside Secrets Manager.

variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "class" {
  description = "RDS class."
  type        = string
}

variable "multi_az" {
  description = "A standby in a second zone."
  type        = bool
}

variable "vpc_id" {
  description = "The VPC."
  type        = string
}

variable "subnet_ids" {
  description = "Closed subnets in two zones."
  type        = list(string)
}

variable "client_group_id" {
  description = "The only security group that may connect."
  type        = string
}

variable "key_arn" {
  description = "Customer key."
  type        = string
}

variable "log_retention_days" {
  description = "How long PostgreSQL's logs are kept."
  type        = number
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "PostgreSQL from the runner, nothing else"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "postgres" {
  security_group_id            = aws_security_group.this.id
  referenced_security_group_id = var.client_group_id
  description                  = "PostgreSQL from the runner"
  from_port                    = 5432
  to_port                      = 5432
  ip_protocol                  = "tcp"
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres16"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/aws/rds/instance/${var.name}/postgresql"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.key_arn
}

resource "aws_iam_role" "monitoring" {
  name = "${var.name}-database-monitoring"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "monitoring.rds.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_db_instance" "this" {
  # checkov:skip=CKV_AWS_157: multi-zone is var.multi_az; off by default because a running session does not need MLflow
  identifier                            = var.name
  engine                                = "postgres"
  engine_version                        = "16"
  instance_class                        = var.class
  allocated_storage                     = 20
  max_allocated_storage                 = 100
  storage_type                          = "gp3"
  storage_encrypted                     = true
  kms_key_id                            = var.key_arn
  db_name                               = "mlflow"
  username                              = "mlflow"
  manage_master_user_password           = true
  master_user_secret_kms_key_id         = var.key_arn
  iam_database_authentication_enabled   = true
  db_subnet_group_name                  = aws_db_subnet_group.this.name
  vpc_security_group_ids                = [aws_security_group.this.id]
  parameter_group_name                  = aws_db_parameter_group.this.name
  publicly_accessible                   = false
  multi_az                              = var.multi_az
  backup_retention_period               = 14
  backup_window                         = "21:10-21:40" # inside the exchange's daily break, 17:00-18:00 New York
  maintenance_window                    = "sat:10:00-sat:11:00"
  copy_tags_to_snapshot                 = true
  deletion_protection                   = true
  skip_final_snapshot                   = false
  final_snapshot_identifier             = "${var.name}-last"
  auto_minor_version_upgrade            = true
  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]
  performance_insights_enabled          = true
  performance_insights_kms_key_id       = var.key_arn
  performance_insights_retention_period = 7
  monitoring_interval                   = 60
  monitoring_role_arn                   = aws_iam_role.monitoring.arn
  ca_cert_identifier                    = "rds-ca-rsa2048-g1"

  depends_on = [aws_cloudwatch_log_group.this]
}

output "host" {
  description = "Address of PostgreSQL."
  value       = aws_db_instance.this.address
}

output "id" {
  description = "RDS identifier."
  value       = aws_db_instance.this.identifier
}

output "secret_arn" {
  description = "Secret with user name and password, rotated by RDS."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}
