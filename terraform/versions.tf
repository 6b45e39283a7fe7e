terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # The state of everything below lies in the bucket of terraform/bootstrap, encrypted and locked:
  #   terraform init -backend-config=backend.hcl
  backend "s3" {}
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      project     = "mcl"
      environment = var.environment
      managed_by  = "terraform"
    }
  }
}
