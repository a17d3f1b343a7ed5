//! This machine as a provider: a box is a child process, one for each GPU (or, without any, as many on the CPU as are
//! asked for). The same life cycle as a rented box, for several GPUs at home and for rehearsals.
//!
//! A box outlives the launcher that started it. What is known of it lies in a folder of its own (`box.json`, `log`,
//! `exit`); its processes are found by the label in their environment, so that a launcher killed between starting
//! one and writing that down finds it all the same.

mod files;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use async_trait::async_trait;
use jiff::Timestamp;

use self::files::{BoxFile, Boxes};
use super::{
    Instance, InstanceId, InstanceStatus, MachineId, Offer, OfferId, Order, Provider, ProviderError,
    ProviderErrorKind, Wanted,
};
use crate::dollars::Dollars;

/// Runs the worker, ends it at the box's hard end, and writes down how it ended.
const START: &str = "left=$((${FLEET_UNTIL:-$(($(date +%s) + 604800))} - $(date +%s)))\n\
                     [ \"$left\" -gt 0 ] || left=1\n\
                     timeout --kill-after=60 \"$left\" \"$0\" \"$@\"; echo $? >exit.new && mv exit.new exit";

/// How long a box has from being asked to end to being killed.
const GRACE_SECONDS: i64 = 10;

/// How long a box may take to have a process.
const START_SECONDS: i64 = 5;

/// This machine.
#[derive(Debug)]
pub struct Local {
    boxes: Boxes,
    worker: PathBuf,
    price: Dollars,
    cpu_boxes: u32,
}

impl Local {
    /// Keeps its boxes in `folder` and starts `worker` in each. An hour of a box counts as `price`; without a GPU
    /// there are `cpu_boxes` of them.
    pub fn open(
        folder: &Path,
        worker: PathBuf,
        price: Dollars,
        cpu_boxes: u32,
    ) -> Result<Self, ProviderError> {
        if !Path::new("/proc/self/environ").exists() {
            let message = "boxes of this machine are found by /proc, which it does not have";
            return Err(ProviderError::new(ProviderErrorKind::Invalid, message));
        }
        Ok(Self { boxes: Boxes::open(folder)?, worker, price, cpu_boxes })
    }

    fn show(&self, file: BoxFile) -> Instance {
        let status = match process::of_label(&file.label).is_empty() {
            false => InstanceStatus::Running,
            true if self.boxes.exit(file.id).is_none() && seconds_since(file.made_at) < START_SECONDS => {
                InstanceStatus::Created
            }
            true => InstanceStatus::Exited,
        };
        let message = match (status, self.boxes.exit(file.id)) {
            (InstanceStatus::Exited, Some(code)) => format!("the worker ended with {code}"),
            (InstanceStatus::Exited, None) => "the worker is gone".to_owned(),
            _ => String::new(),
        };
        Instance {
            id: file.id,
            label: file.label,
            machine: file.machine,
            status,
            message,
            price: Some(self.price),
            min_bid: None,
        }
    }
}

fn seconds_since(moment: Timestamp) -> i64 {
    Timestamp::now().as_second() - moment.as_second()
}

#[async_trait]
impl Provider for Local {
    async fn account(&self) -> Result<String, ProviderError> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(format!("machine {}, boxes in {}", host.trim(), self.boxes.place().display()))
    }

    async fn offers(&self, wanted: &Wanted) -> Result<Vec<Offer>, ProviderError> {
        let taken: BTreeSet<MachineId> = self.boxes.all()?.iter().map(|file| file.machine).collect();
        let offer = |machine: u64, gpu: String, gpu_memory: u64| Offer {
            id: OfferId(machine),
            machine: MachineId(machine),
            gpu,
            gpus: 1,
            gpu_memory,
            price: self.price,
            disk_price: Dollars::ZERO,
            download_price: Dollars::ZERO,
            upload_price: Dollars::ZERO,
            download_speed: 0.0,
            reliability: 1.0,
            place: "this machine".to_owned(),
        };
        let all_gpus = process::gpus().await;
        let mut gpus = all_gpus.clone();
        gpus.retain(|gpu| {
            gpu.memory >= wanted.gpu_memory
                && (wanted.gpus.is_empty() || wanted.gpus.iter().any(|name| gpu.name.contains(name.as_str())))
        });
        // GPUs that do not fit are no reason to work on the CPU.
        let all: Vec<Offer> = if all_gpus.is_empty() {
            (0..self.cpu_boxes).map(|number| offer(u64::from(number), "CPU".to_owned(), 0)).collect()
        } else {
            gpus.into_iter().map(|gpu| offer(gpu.number, gpu.name, gpu.memory)).collect()
        };
        Ok(all.into_iter().filter(|offer| !taken.contains(&offer.machine)).collect())
    }

    async fn create(&self, offer: &Offer, order: &Order) -> Result<InstanceId, ProviderError> {
        let id = self.boxes.add(offer.machine, &order.label)?;
        let folder = self.boxes.folder(id);
        let failed = |error: std::io::Error| {
            ProviderError::new(
                ProviderErrorKind::Invalid,
                format!("cannot start {} in {}", self.worker.display(), folder.display()),
            )
            .with_source(error)
        };
        let log = std::fs::File::create(folder.join("log")).map_err(failed)?;
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", START]).arg(&self.worker);
        let device = if offer.gpu == "CPU" { "cpu".to_owned() } else { format!("cuda:{}", offer.machine) };
        command.args(["--device", &device]);
        if let Some(time) = order.environment.get("FLEET_GIVE_UP_AFTER") {
            command.args(["--give-up-after", time]);
        }
        let arguments = order.environment.get("FLEET_WORKER_ARGS").map_or("", String::as_str);
        command.args(arguments.split_whitespace());
        // Ctrl-C in the launcher's terminal is the launcher's; and a box outlives it.
        command.env_remove(super::vast::KEY_VARIABLE);
        command.envs(&order.environment).current_dir(&folder).process_group(0).kill_on_drop(false);
        command.stdin(Stdio::null()).stderr(log.try_clone().map_err(failed)?).stdout(log);
        match command.spawn() {
            Ok(mut child) => {
                // Somebody has to wait for it, or it stays as a zombie.
                tokio::spawn(async move { child.wait().await });
                Ok(id)
            }
            Err(error) => {
                self.boxes.remove(id)?;
                Err(failed(error))
            }
        }
    }

    async fn instances(&self) -> Result<Vec<Instance>, ProviderError> {
        Ok(self.boxes.all()?.into_iter().map(|file| self.show(file)).collect())
    }

    async fn instance(&self, id: InstanceId) -> Result<Option<Instance>, ProviderError> {
        Ok(self.boxes.read(id)?.map(|file| self.show(file)))
    }

    async fn destroy(&self, id: InstanceId) -> Result<(), ProviderError> {
        let Some(file) = self.boxes.read(id)? else { return Ok(()) };
        let processes = process::of_label(&file.label);
        if processes.is_empty() {
            return self.boxes.remove(id);
        }
        let asked = self.boxes.ask_to_end(id)?;
        let signal = if seconds_since(asked) < GRACE_SECONDS { "TERM" } else { "KILL" };
        process::signal(signal, &processes);
        Ok(())
    }

    async fn raise_bid(&self, _: InstanceId, _: Dollars) -> Result<(), ProviderError> {
        Err(ProviderError::new(ProviderErrorKind::Invalid, "this machine takes no bids"))
    }

    async fn logs(&self, id: InstanceId, lines: u32) -> Result<String, ProviderError> {
        self.boxes.log(id, lines as usize)
    }

    async fn balance(&self) -> Result<Option<Dollars>, ProviderError> {
        Ok(None)
    }

    async fn charges(&self, _: Timestamp) -> Result<Option<BTreeMap<InstanceId, Dollars>>, ProviderError> {
        Ok(None)
    }

    fn show_search(&self, _: &Wanted) -> String {
        "nvidia-smi --query-gpu=index,name,memory.total --format=csv,noheader,nounits".to_owned()
    }

    fn show_create(&self, offer: &Offer, order: &Order) -> String {
        let names: Vec<&str> = order.environment.keys().map(String::as_str).collect();
        format!("{} on {} {}, with {}", self.worker.display(), offer.gpu, offer.machine, names.join(", "))
    }
}
