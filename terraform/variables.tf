variable "region" {
  description = "Parent region of the local zone: managed services (buckets, database, secrets) live here."
  type        = string
  default     = "us-east-1"

  validation {
    condition     = startswith(var.local_zone, var.region)
    error_message = "region must be the parent of local_zone: us-east-1-chi-2a belongs to us-east-1."
  }
}

variable "local_zone" {
  description = "Where the runner stands. us-east-1-chi-2a is Chicago; it is opted into by the network module."
  type        = string
  default     = "us-east-1-chi-2a"

  validation {
    condition     = can(regex("^[a-z]{2}-[a-z]+-[0-9]-[a-z]{3}-[0-9][a-z]$", var.local_zone))
    error_message = "local_zone must name a local zone, for instance us-east-1-chi-2a; us-east-2 and us-east-1a are none."
  }
}

variable "environment" {
  description = "paper or live. live needs live_money and live_confirm as well, and mcl still refuses a version that was not promoted to live."
  type        = string
  default     = "paper"

  validation {
    condition     = contains(["paper", "live"], var.environment)
    error_message = "environment must be paper or live."
  }
}

variable "name" {
  description = "Prefix of all names; bucket names must be globally unique, so take something of your own."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,29}[a-z0-9]$", var.name))
    error_message = "name must be 4 to 31 lower-case letters, digits or hyphens, a letter first, no hyphen last."
  }
}

variable "vpc_cidr" {
  description = "Address range of the VPC; three /24 are cut from it."
  type        = string
  default     = "10.61.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && tonumber(split("/", var.vpc_cidr)[1]) <= 20
    error_message = "vpc_cidr must be an IPv4 range of /20 or larger, for instance 10.61.0.0/16."
  }
}

variable "instance_type" {
  description = "Type of the runner; the plan asks AWS whether the local zone offers it and refuses otherwise."
  type        = string
  default     = "c6i.large"

  validation {
    condition     = can(regex("^(c6i|m6i|r6i|c6gn|c7i|m7i|r7i)\\.", var.instance_type))
    error_message = "instance_type must be of a family that local zones carry: c6i, m6i, r6i, c6gn, c7i, m7i, r7i. t3 is not among them in Chicago."
  }

  validation {
    condition     = !startswith(var.instance_type, "c6gn.")
    error_message = "c6gn is ARM; the image of mcl is built for x86-64."
  }
}

variable "volume_type" {
  description = "EBS type of the runner's volumes; local zones carry a part of what regions carry."
  type        = string
  default     = "gp3"

  validation {
    condition     = contains(["gp2", "gp3"], var.volume_type)
    error_message = "volume_type must be gp3, or gp2 where the zone has no gp3; io2 does not exist in local zones."
  }
}

variable "data_volume_gb" {
  description = "Size of the volume with runs, journals and market data."
  type        = number
  default     = 50

  validation {
    condition     = var.data_volume_gb >= 20 && var.data_volume_gb <= 1000
    error_message = "data_volume_gb must be between 20 and 1000."
  }
}

variable "image" {
  description = "The mcl image, pinned by digest: REGISTRY/mcl@sha256:… as `docker push` prints it."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9.:/_-]+@sha256:[0-9a-f]{64}$", var.image))
    error_message = "image must be pinned by digest: registry/mcl@sha256:<64 hex digits>. A tag can be moved under a running system."
  }
}

variable "gateway_image" {
  description = "The IB Gateway image, pinned by digest. Yours to choose and to trust: it sees your credentials."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9.:/_-]+@sha256:[0-9a-f]{64}$", var.gateway_image))
    error_message = "gateway_image must be pinned by digest: registry/ib-gateway@sha256:<64 hex digits>."
  }
}

variable "database_class" {
  description = "RDS class of the MLflow database."
  type        = string
  default     = "db.t4g.micro"

  validation {
    condition     = startswith(var.database_class, "db.")
    error_message = "database_class must be an RDS class, for instance db.t4g.micro."
  }
}

variable "database_multi_az" {
  description = "A standby in a second zone. Off by default: losing MLflow for an hour stops research, not a running session."
  type        = bool
  default     = false
}

variable "alarm_email" {
  description = "Who is told. The address must confirm the subscription once."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+\\.[a-z]{2,}$", var.alarm_email))
    error_message = "alarm_email must be an e-mail address."
  }
}

variable "monthly_budget_usd" {
  description = "Alarm at 80 % spent and at 100 % forecast."
  type        = number
  default     = 200

  validation {
    condition     = var.monthly_budget_usd >= 20
    error_message = "monthly_budget_usd must be at least 20: the smallest working deployment costs more than that."
  }
}

variable "stale_after_sec" {
  description = "Age of the newest bar, while a session trades, above which an alarm is raised."
  type        = number
  default     = 180

  validation {
    condition     = var.stale_after_sec >= 60
    error_message = "stale_after_sec must be at least 60: one-minute bars are never younger on average."
  }
}

variable "weekend_stop" {
  description = "Stop the runner from Friday evening to Sunday afternoon, New York time: the market is closed."
  type        = bool
  default     = true
}

variable "log_retention_days" {
  description = "How long CloudWatch keeps logs; journals and audits stay in the artifact bucket."
  type        = number
  default     = 400

  validation {
    condition     = contains([365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be one of 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653: trading records are kept for a year or longer."
  }
}

variable "ib_username" {
  description = "Interactive Brokers login of a user of its own. Its password goes into Secrets Manager by hand."
  type        = string
}

variable "ib_account" {
  description = "The account that the session may trade."
  type        = string

  validation {
    condition     = can(regex("^[A-Z]{1,3}[0-9]{5,9}$", var.ib_account)) && (var.environment == "live") != startswith(var.ib_account, "D")
    error_message = "ib_account must be an account id; environment paper takes paper accounts only, which begin with D, and live takes none of those."
  }
}

variable "live_money" {
  description = "One of the three locks of live money: true becomes MCL_LIVE=1. Needed by environment live, refused by paper."
  type        = bool
  default     = false

  validation {
    condition     = var.live_money == (var.environment == "live")
    error_message = "live_money must be true for environment live and false for paper."
  }
}

variable "live_confirm" {
  description = "Another lock: the account id once more, typed by hand. The third is a version promoted to live, which no plan can give."
  type        = string
  default     = ""

  validation {
    condition     = var.live_confirm == (var.environment == "live" ? var.ib_account : "")
    error_message = "live_confirm must repeat ib_account for environment live, and be empty for paper."
  }
}
