//! A run to watch: a real queue, slow workers, and a dashboard.

use std::net::TcpStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::program::{Program, Running};
use crate::redis::{RedisServer, free_port};
use crate::wait::until;

/// The run's name.
pub const RUN: &str = "exam-2025";

/// How a run is made.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Items of the run.
    pub items: usize,
    /// Items of a shard.
    pub shard_size: usize,
    /// How long a lease lasts.
    pub lease: &'static str,
}

/// A planned run with its queue.
pub struct Scene {
    /// The queue.
    pub redis: RedisServer,
    folder: TempDir,
}

/// A dashboard that is served.
pub struct Dashboard {
    /// Where it listens on loopback.
    pub port: u16,
    /// The program.
    pub program: Running,
}

impl Dashboard {
    /// The address of the page.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

impl Scene {
    /// Plans a run; `None` with a visible line where there is no Redis.
    ///
    /// # Panics
    /// When it cannot be planned.
    pub fn plan(plan: Plan) -> Option<Self> {
        let redis = RedisServer::start()?;
        let folder = TempDir::new().unwrap();
        let line =
            |number| json!({"id": number, "text": format!("item {number}, as harmless as the others")});
        let lines: Vec<String> = (0..plan.items).map(|number| line(number).to_string()).collect();
        std::fs::write(folder.path().join("items.jsonl"), lines.join("\n")).unwrap();
        let scene = Self { redis, folder };
        let size = plan.shard_size.to_string();
        let planned = scene
            .coordinator("plan")
            .args(["--items", "items.jsonl", "--model", "hash:64", "--lease", plan.lease])
            .args(["--shard-size", &size])
            .output()
            .expect(0);
        assert_eq!(planned.stdout().trim(), RUN);
        Some(scene)
    }

    /// The working folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The run's folder in the store.
    pub fn run_folder(&self) -> PathBuf {
        self.folder().join("store/runs").join(RUN)
    }

    /// The program with the run's places.
    pub fn with_places(&self, program: Program) -> Program {
        program
            .env("FLEET_STORE", self.folder().join("store"))
            .env("FLEET_QUEUE", self.redis.url())
            .env("FLEET_RUN", RUN)
            .env_remove("FLEET_DASHBOARD_TOKEN")
    }

    /// A command of the coordinator.
    pub fn coordinator(&self, command: &str) -> Program {
        self.with_places(Program::coordinator(self.folder()).args([command]))
    }

    /// What `status --json` says.
    ///
    /// # Panics
    /// When it says nothing.
    pub fn status(&self) -> Value {
        let status = self.coordinator("status").args(["--json"]).output().expect(0);
        serde_json::from_str(&status.stdout()).unwrap()
    }

    /// A worker whose batches take so long.
    pub fn worker(&self, name: &str, batch_milliseconds: u32) -> Running {
        self.with_places(Program::rigged_worker(self.folder()))
            .env("RIGGED_BATCH_MS", batch_milliseconds.to_string())
            .args(["--device", "cpu", "--claim-poll", "100ms"])
            .start(&self.folder().join(format!("{name}.log")))
    }

    /// A dashboard, with a token or without one.
    pub fn dashboard(&self, token: Option<&str>) -> Dashboard {
        self.dashboard_on(free_port(), token)
    }

    /// The same on this port.
    pub fn dashboard_on(&self, port: u16, token: Option<&str>) -> Dashboard {
        self.dashboard_at(&format!("127.0.0.1:{port}"), port, token)
    }

    /// One that other machines can reach too, so that reading takes the token.
    pub fn dashboard_for_strangers(&self, port: u16, token: &str) -> Dashboard {
        self.dashboard_at(&format!("0.0.0.0:{port}"), port, Some(token))
    }

    fn dashboard_at(&self, listen: &str, port: u16, token: Option<&str>) -> Dashboard {
        let mut command = self.coordinator("dashboard").flag("--listen", listen);
        if let Some(token) = token {
            command = command.env("FLEET_DASHBOARD_TOKEN", token);
        }
        let program = command.start(&self.folder().join("dashboard.log"));
        let dashboard = Dashboard { port, program };
        until("the dashboard to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
        dashboard
    }
}
