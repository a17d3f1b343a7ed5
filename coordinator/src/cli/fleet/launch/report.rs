//! How a launcher ends, told to a person and to the table of speeds.

use shared::exit::ExitCode;

use super::args::LaunchArgs;
use crate::failure::Failure;
use crate::fleet::launch::Outcome;
use crate::fleet::speeds::{Speed, Speeds};
use crate::fleet::view::{FleetView, text};

/// A run measures a GPU's speed when its boxes worked for so long.
const MEASURED_SECONDS: f64 = 30.0;

impl LaunchArgs {
    /// Prints the fleet, and what to do next.
    pub fn report(&self, view: &FleetView, outcome: &Outcome, store: &str) -> Result<(), Failure> {
        if self.json {
            let json =
                serde_json::to_string(view).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
            println!("{json}");
        } else {
            print!("{}", text::fleet(view, true));
        }
        let run = &view.run;
        match outcome {
            Outcome::Closed { ending, .. } if outcome.exit_code() == ExitCode::Done => {
                eprintln!(
                    "{ending}: every box is gone; next: coordinator merge --run {run} --out embeddings.npz"
                );
            }
            Outcome::Closed { ending, .. } => eprintln!(
                "{ending}: every box is gone; what is finished lies in {store}, `coordinator status --run {run}` says \
                 what is left, and the same command (with a higher --budget, if that was it) goes on"
            ),
            Outcome::Left => eprintln!(
                "this launcher stops; its boxes work on, and `coordinator launch` takes them over; `coordinator destroy \
                 --all --run {run}` ends them"
            ),
            Outcome::Unconfirmed { ending, instances, labels }
                if instances.is_empty() && labels.is_empty() =>
            {
                eprintln!(
                    "error: {ending}, and every box is gone, but the end could not be written down, or the list of \
                     instances not be read: run `coordinator destroy --all --run {run}` once more"
                );
            }
            Outcome::Unconfirmed { ending, instances, labels } => {
                let mut ids: Vec<String> = instances.iter().map(ToString::to_string).collect();
                ids.extend(labels.iter().map(|label| format!("an order labelled {label}")));
                eprintln!(
                    "error: {ending}, and these boxes could not be confirmed to be gone: {}. They may cost money: run \
                     `coordinator destroy --all --run {run}`, or look at the market's own page",
                    ids.join(", ")
                );
            }
        }
        Ok(())
    }

    /// Writes down how fast this run's GPUs were.
    pub fn keep_speeds(&self, speeds: &mut Speeds, model: &str, view: &FleetView) -> Result<(), Failure> {
        let mut new = 0;
        for kind in &view.cost.by_gpu {
            let Some(rate) = kind.items_per_second else { continue };
            if kind.items as f64 / rate < MEASURED_SECONDS {
                continue;
            }
            new += 1;
            speeds.measure(Speed {
                model: model.to_owned(),
                gpu: kind.gpu.clone(),
                items_per_second: (rate * 10.0).round() / 10.0,
                source: format!("measured: run {}, {} boxes, {} items", view.run, kind.boxes, kind.items),
            });
        }
        if new > 0 {
            speeds.write(&self.speeds).map_err(|error| Failure::new(ExitCode::Unexpected, error))?;
            eprintln!("the speeds of {new} kinds of GPU are in {}", self.speeds.display());
        }
        Ok(())
    }
}
