# One EC2 instance that runs docker/compose.yaml, reached through SSM only. It may be lost: journals and runs lie on a volume of their
# own, artifacts in S3, runs in RDS; positions are protected at the broker.

data "aws_caller_identity" "this" {}

data "aws_ec2_instance_type_offerings" "here" {
  location_type = "availability-zone"

  filter {
    name   = "location"
    values = [var.local_zone]
  }
}

data "aws_ssm_parameter" "ubuntu" {
  name = "/aws/service/canonical/ubuntu/server/24.04/stable/current/amd64/hvm/ebs-gp3/ami-id"
}

locals {
  deploy = "${path.module}/../../../docker"
  files  = setunion(fileset(local.deploy, "compose*.yaml"), fileset(local.deploy, "{grafana,prometheus,loki,scripts}/**"))
  money = {
    paper = ["MCL_IB_ACCOUNT=${var.ib_account}"]
    live  = ["MCL_IB_LIVE_ACCOUNT=${var.ib_account}", "MCL_LIVE_CONFIRM=${var.live_confirm}", "MCL_LIVE=${var.live_money ? 1 : ""}"]
  }
  compose_env = templatefile("${path.module}/files/compose.env.tftpl", {
    money         = join("\n", local.money[var.environment])
    image         = var.image
    gateway_image = var.gateway_image
    ib_username   = var.ib_username
    database_host = var.database_host
    bucket        = var.buckets["artifacts"]
    environment   = var.environment
  })
  start = templatefile("${path.module}/files/start.sh.tftpl", {
    region           = var.region
    registry         = split("/", var.image)[0]
    deploy_uri       = "s3://${var.buckets["artifacts"]}/deploy/"
    log_group        = var.log_group
    metric_namespace = var.metric_namespace
    secrets          = join(" ", [for name, arn in merge({ database = var.database_secret }, var.secret_arns) : "${name}=${arn}"])
    session          = var.environment == "live" ? "runner-live" : "runner"
    volume           = replace(aws_ebs_volume.data.id, "-", "")
    heartbeat        = file("${path.module}/files/heartbeat.sh")
    fetch_secrets    = file("${path.module}/files/fetch_secrets.sh")
  })
}

resource "aws_s3_object" "deploy" {
  for_each               = local.files
  bucket                 = var.buckets["artifacts"]
  key                    = "deploy/${each.value}"
  source                 = "${local.deploy}/${each.value}"
  source_hash            = filemd5("${local.deploy}/${each.value}")
  server_side_encryption = "aws:kms"
  kms_key_id             = var.key_arn
}

resource "aws_s3_object" "environment" {
  bucket                 = var.buckets["artifacts"]
  key                    = "deploy/compose.env"
  content                = local.compose_env
  server_side_encryption = "aws:kms"
  kms_key_id             = var.key_arn
}

resource "aws_iam_role" "runner" {
  name = "${var.name}-runner"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "ec2.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy_attachment" "ssm" {
  role       = aws_iam_role.runner.name
  policy_arn = "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "runner" {
  # checkov:skip=CKV_AWS_355: ecr:GetAuthorizationToken and cloudwatch:PutMetricData know no resource; the latter is tied to one namespace
  # checkov:skip=CKV_AWS_290: as above
  name = "what-a-runner-does"
  role = aws_iam_role.runner.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ReadMarketDataWriteArtifacts"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject"]
        Resource = ["${var.bucket_arns["data"]}/*", "${var.bucket_arns["artifacts"]}/*"]
      },
      {
        Sid      = "NeverChangeWhatIsDeployed"
        Effect   = "Deny"
        Action   = ["s3:PutObject", "s3:DeleteObject"]
        Resource = "${var.bucket_arns["artifacts"]}/deploy/*"
      },
      {
        Sid      = "ListThem"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = [var.bucket_arns["data"], var.bucket_arns["artifacts"]]
      },
      {
        Sid      = "MlflowDeletesItsArtifacts"
        Effect   = "Allow"
        Action   = "s3:DeleteObject"
        Resource = "${var.bucket_arns["artifacts"]}/mlflow/*"
      },
      {
        Sid      = "ReadItsSecrets"
        Effect   = "Allow"
        Action   = "secretsmanager:GetSecretValue"
        Resource = concat(values(var.secret_arns), [var.database_secret])
      },
      {
        Sid      = "UseTheKey"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = var.key_arn
      },
      {
        Sid      = "PullTheImage"
        Effect   = "Allow"
        Action   = ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability"]
        Resource = var.repository_arn
      },
      {
        Sid      = "LogInToTheRegistry"
        Effect   = "Allow"
        Action   = "ecr:GetAuthorizationToken"
        Resource = "*"
      },
      {
        Sid      = "Log"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents"]
        Resource = "${var.log_group_arn}:*"
      },
      {
        Sid       = "Heartbeat"
        Effect    = "Allow"
        Action    = "cloudwatch:PutMetricData"
        Resource  = "*"
        Condition = { StringEquals = { "cloudwatch:namespace" = var.metric_namespace } }
      },
    ]
  })
}

resource "aws_iam_instance_profile" "runner" {
  name = "${var.name}-runner"
  role = aws_iam_role.runner.name
}

resource "aws_security_group" "runner" {
  name        = "${var.name}-runner"
  description = "Accepts nothing. Reaches the broker, AWS and PostgreSQL."
  vpc_id      = var.vpc_id
}

locals {
  egress = {
    https     = { port = 443, to = 443, cidr = "0.0.0.0/0", why = "AWS APIs, image registries, Databento, the broker's login" }
    http      = { port = 80, to = 80, cidr = "0.0.0.0/0", why = "signed packages of the distribution" }
    broker    = { port = 4000, to = 4001, cidr = "0.0.0.0/0", why = "Interactive Brokers, TLS on its own ports" }
    databento = { port = 13000, to = 13050, cidr = "0.0.0.0/0", why = "Databento live sessions" }
    postgres  = { port = 5432, to = 5432, cidr = var.vpc_cidr, why = "MLflow database" }
  }
}

resource "aws_vpc_security_group_egress_rule" "runner" {
  for_each          = local.egress
  security_group_id = aws_security_group.runner.id
  description       = each.value.why
  cidr_ipv4         = each.value.cidr
  from_port         = each.value.port
  to_port           = each.value.to
  ip_protocol       = "tcp"
}

resource "aws_instance" "runner" {
  ami                    = data.aws_ssm_parameter.ubuntu.value
  instance_type          = var.instance_type
  subnet_id              = var.subnet_id
  vpc_security_group_ids = [aws_security_group.runner.id]
  iam_instance_profile   = aws_iam_instance_profile.runner.name
  ebs_optimized          = true
  monitoring             = true
  user_data              = local.start

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 2 # MLflow's container uses the instance's role; prepare.sh closes it to every other one
  }

  maintenance_options {
    auto_recovery = "default"
  }

  root_block_device {
    volume_type = var.volume_type
    volume_size = 20
    encrypted   = true
    kms_key_id  = var.key_arn
  }

  tags        = { Name = "${var.name}-runner" }
  volume_tags = { Name = "${var.name}-runner" }

  lifecycle {
    # Neither a new image of the distribution nor a new boot script may stop a trading machine by surprise: terraform apply -replace=…
    ignore_changes = [ami, user_data]

    precondition {
      condition     = contains(data.aws_ec2_instance_type_offerings.here.instance_types, var.instance_type)
      error_message = "${var.local_zone} does not offer ${var.instance_type}; it offers ${join(", ", slice(sort(tolist(data.aws_ec2_instance_type_offerings.here.instance_types)), 0, min(12, length(data.aws_ec2_instance_type_offerings.here.instance_types))))}."
    }
  }
}

resource "aws_ebs_volume" "data" {
  availability_zone = var.local_zone
  size              = var.data_volume_gb
  type              = var.volume_type
  encrypted         = true
  kms_key_id        = var.key_arn
  tags              = { Name = "${var.name}-data", backup = var.name }

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_volume_attachment" "data" {
  device_name = "/dev/sdf"
  volume_id   = aws_ebs_volume.data.id
  instance_id = aws_instance.runner.id
}

resource "aws_eip" "runner" {
  domain               = "vpc"
  network_border_group = var.border_group
  instance             = aws_instance.runner.id
  tags                 = { Name = "${var.name}-runner" }
}

# A snapshot of runs and journals each day, kept a month, in the parent region.
resource "aws_iam_role" "snapshots" {
  name = "${var.name}-snapshots"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "dlm.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy_attachment" "snapshots" {
  role       = aws_iam_role.snapshots.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole"
}

resource "aws_dlm_lifecycle_policy" "data" {
  description        = "${var.name} daily"
  execution_role_arn = aws_iam_role.snapshots.arn

  policy_details {
    resource_types = ["VOLUME"]
    target_tags    = { backup = var.name }

    schedule {
      name      = "daily"
      copy_tags = true

      create_rule {
        cron_expression = "cron(15 22 * * ? *)"
      }

      retain_rule {
        count = 30
      }
    }
  }
}
