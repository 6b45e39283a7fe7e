# A VPC with one public-egress subnet in the local zone and two closed ones in the region. Nothing accepts connections from outside:
# the runner has an address because a NAT gateway in the parent region would send every order through Virginia.

variable "name" {
  description = "Prefix of all names."
  type        = string
}

variable "cidr" {
  description = "Range of the VPC."
  type        = string
}

variable "local_zone" {
  description = "The local zone of the runner."
  type        = string
}

variable "key_arn" {
  description = "Key of the flow logs."
  type        = string
}

variable "log_retention_days" {
  description = "How long flow logs are kept."
  type        = number
}

data "aws_region" "this" {}

locals {
  database_zones = ["${data.aws_region.this.name}a", "${data.aws_region.this.name}b"] # named, so that a new zone of AWS moves nothing
  border_group   = substr(var.local_zone, 0, length(var.local_zone) - 1)
}

# Opting in is free; destroying this does not opt out (only AWS support can).
resource "aws_ec2_availability_zone_group" "local" {
  group_name    = local.border_group
  opt_in_status = "opted-in"
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_support   = true
  enable_dns_hostnames = true
  tags                 = { Name = var.name }
}

# The group that AWS makes by default lets its members talk; adopted here without any rule.
resource "aws_default_security_group" "closed" {
  vpc_id = aws_vpc.this.id
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = var.name }
}

resource "aws_subnet" "runner" {
  vpc_id                  = aws_vpc.this.id
  cidr_block              = cidrsubnet(var.cidr, 24 - tonumber(split("/", var.cidr)[1]), 0)
  availability_zone       = var.local_zone
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-runner" }

  depends_on = [aws_ec2_availability_zone_group.local]
}

resource "aws_subnet" "database" {
  count                   = 2
  vpc_id                  = aws_vpc.this.id
  cidr_block              = cidrsubnet(var.cidr, 24 - tonumber(split("/", var.cidr)[1]), count.index + 1)
  availability_zone       = local.database_zones[count.index]
  map_public_ip_on_launch = false
  tags                    = { Name = "${var.name}-database-${count.index}" }
}

resource "aws_route_table" "runner" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${var.name}-runner" }

  route {
    cidr_block = "0.0.0.0/0"
    gateway_id = aws_internet_gateway.this.id
  }
}

resource "aws_route_table_association" "runner" {
  subnet_id      = aws_subnet.runner.id
  route_table_id = aws_route_table.runner.id
}

resource "aws_route_table" "database" {
  vpc_id = aws_vpc.this.id
  tags   = { Name = "${var.name}-database" }
}

resource "aws_route_table_association" "database" {
  count          = 2
  subnet_id      = aws_subnet.database[count.index].id
  route_table_id = aws_route_table.database.id
}

# Artifacts and data reach S3 without leaving the network of AWS, at no cost.
resource "aws_vpc_endpoint" "s3" {
  vpc_id            = aws_vpc.this.id
  service_name      = "com.amazonaws.${data.aws_region.this.name}.s3"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = [aws_route_table.runner.id, aws_route_table.database.id]
}

resource "aws_cloudwatch_log_group" "flow" {
  name              = "/${var.name}/flow"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.key_arn
}

resource "aws_iam_role" "flow" {
  name = "${var.name}-flow"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Principal = { Service = "vpc-flow-logs.amazonaws.com" }, Action = "sts:AssumeRole" }]
  })
}

resource "aws_iam_role_policy" "flow" {
  role = aws_iam_role.flow.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
      Resource = "${aws_cloudwatch_log_group.flow.arn}:*"
    }]
  })
}

resource "aws_flow_log" "this" {
  vpc_id          = aws_vpc.this.id
  traffic_type    = "REJECT"
  log_destination = aws_cloudwatch_log_group.flow.arn
  iam_role_arn    = aws_iam_role.flow.arn
}

output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "runner_subnet_id" {
  description = "Subnet in the local zone."
  value       = aws_subnet.runner.id
}

output "database_subnet_ids" {
  description = "Closed subnets in two zones of the region."
  value       = aws_subnet.database[*].id
}

output "border_group" {
  description = "Group from which public addresses of the local zone come."
  value       = local.border_group
}
