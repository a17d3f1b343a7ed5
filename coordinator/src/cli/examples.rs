//! The examples under each command's `--help` and in its manual page.

#[cfg(feature = "local")]
pub const DEMO: &str = "\
Examples:
  coordinator demo
  coordinator demo --dir /tmp/demo";

pub const CHECK: &str = "\
Examples:
  coordinator check --items 'items/*.json' --images images/
  coordinator check --items items.jsonl --images images.zip --by subject --by year";

pub const PLAN: &str = "\
Examples:
  coordinator plan --items 'items/*.json' --images images.zip --model Qwen/Qwen3-VL-Embedding-8B
  run=$(coordinator plan --store s3://bucket/prefix --items items.jsonl --model ./model --push-model)
  coordinator plan --signed-urls 7d --items items.jsonl --model Qwen/Qwen3-VL-Embedding-2B";

#[cfg(feature = "local")]
pub const RUN: &str = "\
Examples:
  coordinator run --items 'items/*.json' --images images/ --model ./model --out embeddings.npz
  coordinator run --items items.jsonl --model hash:256 --workers 4 --device cpu --out rehearsal.npz";

pub const STATUS: &str = "\
Examples:
  coordinator status
  coordinator status --watch                        on a terminal: q quit, p pause, r resume, arrows scroll
  coordinator status --watch --json | jq .items_per_second";

pub const DASHBOARD: &str = "\
Examples:
  coordinator dashboard                             then open http://127.0.0.1:8080/
  ssh -L 8080:127.0.0.1:8080 box                    a dashboard on another machine, seen here
  FLEET_DASHBOARD_TOKEN=$(openssl rand -hex 16) coordinator dashboard --listen 0.0.0.0:8080
  curl -X POST -H \"Authorization: Bearer $FLEET_DASHBOARD_TOKEN\" http://127.0.0.1:8080/api/pause
  curl http://127.0.0.1:8080/metrics";

pub const PAUSE: &str = "\
Examples:
  coordinator pause
  coordinator pause --run exam-2025 && coordinator resume --run exam-2025";

pub const DRAIN: &str = "\
Examples:
  coordinator drain --run exam-2025";

pub const RESUME: &str = "\
Examples:
  coordinator resume
  coordinator resume --dry-run --deep
  coordinator resume --failed-items";

pub const MERGE: &str = "\
Examples:
  coordinator merge --out embeddings.npz
  coordinator merge --out s3://bucket/embeddings.npz --dtype f16
  coordinator merge --out so-far.npz --partial";

pub const VERIFY: &str = "\
Examples:
  coordinator verify embeddings.npz
  coordinator verify embeddings.npz --run exam-2025 --json";

pub const FORGET: &str = "\
Examples:
  coordinator forget --run exam-2025";

pub const LAUNCH: &str = "\
Examples:
  coordinator launch --dry-run --workers 4 --budget 6
  coordinator launch --workers 4 --budget 6
  coordinator launch --provider local --workers 2 --yes";

pub const INSTANCES: &str = "\
Examples:
  coordinator instances --watch
  coordinator instances --all --json";

pub const LOGS: &str = "\
Examples:
  coordinator logs 12345678 --tail 200";

pub const DESTROY: &str = "\
Examples:
  coordinator destroy 12345678
  coordinator destroy --all";

pub const QUEUE_ACL: &str = "\
Examples:
  coordinator queue-acl --run exam-2025
  coordinator queue-acl --run exam-2025 --apply
  coordinator queue-acl --run exam-2025 --remove";

pub const COMPLETIONS: &str = "\
Examples:
  coordinator completions bash > ~/.local/share/bash-completion/completions/coordinator
  coordinator completions zsh  > \"${fpath[1]}/_coordinator\"
  coordinator completions fish > ~/.config/fish/completions/coordinator.fish";

pub const MAN: &str = "\
Examples:
  coordinator man | man -l -
  coordinator man ~/.local/share/man/man1";
