//! Outcomes as a table: a row a figure, a column a case, medians of the rounds in the cells.

use super::case::Outcome;
use super::overhead::Overhead;
use super::phase::Phase;
use super::samples::{Samples, median};

/// `coordinator status` takes no longer, whatever the run's size.
const STATUS_MILLISECONDS: f64 = 50.0;

/// The phase in which calls come as they do from real workers.
const PACED: &str = "paced";

/// What the fleet costs a shard.
const OVERHEAD_MILLISECONDS: f64 = 5.0;

/// One row of one case.
#[derive(Debug, Clone)]
pub struct Figure {
    name: String,
    values: Vec<f64>,
    decimals: usize,
    /// The first value may not be more.
    gate: Option<f64>,
}

impl Figure {
    fn new(name: impl Into<String>, decimals: usize, values: &[f64]) -> Self {
        Self { name: name.into(), values: values.to_vec(), decimals, gate: None }
    }

    /// The same with a gate, which its name tells.
    fn at_most(self, gate: f64) -> Self {
        Self { name: format!("{} (gate for the first: {gate})", self.name), gate: Some(gate), ..self }
    }

    /// The median of each value over the rounds, a slash between them; a dash where there was nothing.
    fn cell(rounds: &[&Figure]) -> String {
        let values = (0..rounds[0].values.len()).map(|index| {
            let values: Vec<f64> = rounds.iter().map(|figure| figure.values[index]).collect();
            let median = median(&values);
            if median.is_nan() { "-".to_owned() } else { format!("{median:.*}", rounds[0].decimals) }
        });
        values.collect::<Vec<_>>().join(" / ")
    }
}

/// The figures of a case in one round; every round has the same.
pub fn figures(outcome: &Outcome) -> Vec<Figure> {
    let shards = outcome.case.shards as f64;
    let start = &outcome.start;
    let mut figures = vec![
        Figure::new("connections", 0, &[outcome.connections as f64]),
        Figure::new("adding all shards, s", 2, &[outcome.added.as_secs_f64()]),
        Figure::new("longest call of add (500 shards) on the server, ms", 1, &[outcome.slowest_add]),
        Figure::new(
            "used_memory a shard, added / at the end, bytes",
            0,
            &[outcome.bytes as f64 / shards, outcome.bytes_at_end as f64 / shards],
        ),
        Figure::new("keys, added / at the end", 0, &[outcome.keys as f64, outcome.keys_at_end as f64]),
        Figure::new(
            "all claim at once: s / p50 / p99 of a claim, ms",
            1,
            &[
                start.took.as_secs_f64(),
                start.work.claims.percentile(50.0),
                start.work.claims.percentile(99.0),
            ],
        ),
    ];
    let at_rest = &outcome.at_rest;
    figures.push(Figure::new(
        "at rest: snapshot p50 / p99 / processor time of the server / of the asker, ms",
        1,
        &[
            at_rest.snapshots.percentile(50.0),
            at_rest.snapshots.percentile(99.0),
            at_rest.server_milliseconds,
            at_rest.asker_milliseconds,
        ],
    ));
    figures.push(
        Figure::new(
            "at rest: `coordinator status` p50 / p99, ms",
            1,
            &[at_rest.commands.percentile(50.0), at_rest.commands.percentile(99.0)],
        )
        .at_most(STATUS_MILLISECONDS),
    );
    figures.extend(figures_of_phase(PACED, &outcome.paced));
    figures.extend(figures_of_phase("flat out", &outcome.flat_out));
    figures
}

fn figures_of_phase(name: &str, phase: &Phase) -> Vec<Figure> {
    let work = &phase.work;
    let of_calls = |what: &str, samples: &Samples| {
        Figure::new(
            format!("{name}: {what} a second / p50 / p99, ms"),
            1,
            &[phase.rate(samples.count()), samples.percentile(50.0), samples.percentile(99.0)],
        )
    };
    let two = |samples: &Samples| [samples.percentile(50.0), samples.percentile(99.0)];
    let snapshots = Figure::new(format!("{name}: snapshot p50 / p99, ms"), 1, &two(&phase.snapshots));
    // Flat out it waits in line with a call of every worker, as they all do.
    let snapshots = if name == PACED { snapshots.at_most(STATUS_MILLISECONDS) } else { snapshots };
    vec![
        of_calls("claims", &work.claims),
        of_calls("beats", &work.beats),
        of_calls("completions", &work.completes),
        snapshots,
        Figure::new(
            format!("{name}: snapshots over 1 ms on the server, p50 / p99, ms"),
            1,
            &two(&phase.slow.snapshots),
        ),
        Figure::new(
            format!("{name}: other calls over 1 ms on the server, share in % / longest, ms"),
            2,
            &[
                100.0 * phase.slow.others.count() as f64 / work.calls() as f64,
                phase.slow.others.percentile(100.0),
            ],
        ),
        Figure::new(
            format!("{name}: redis-server, % of a core / microseconds a call"),
            0,
            &[phase.processor_percent(), phase.processor_by_call()],
        ),
        Figure::new(format!("{name}: load average"), 1, &[phase.load]),
    ]
}

/// The figures of the overhead in one round.
pub fn figures_of_overhead(overhead: &Overhead) -> Vec<Figure> {
    let (shards, beats) = (&overhead.shards, &overhead.beats);
    vec![
        Figure::new(
            "a shard, claim sent to completion answered, p50 / p99, ms",
            2,
            &[shards.percentile(50.0), shards.percentile(99.0)],
        )
        .at_most(OVERHEAD_MILLISECONDS),
        Figure::new(
            "beats beside / p50 / p99, ms",
            2,
            &[beats.count() as f64, beats.percentile(50.0), beats.percentile(99.0)],
        ),
    ]
}

/// The gates that medians over the rounds do not keep, a line each.
pub fn missed(columns: &[(String, Vec<Vec<Figure>>)]) -> Vec<String> {
    let mut missed = Vec::new();
    for (heading, rounds) in columns {
        for (row, figure) in rounds.first().into_iter().flatten().enumerate() {
            let first = median(&rounds.iter().map(|figures| figures[row].values[0]).collect::<Vec<_>>());
            if figure.gate.is_some_and(|gate| first.is_nan() || first > gate) {
                missed.push(format!("{heading}: {first:.2}: {}", figure.name));
            }
        }
    }
    missed
}

/// A table in Markdown. `columns` has a heading and the rounds of each case.
pub fn table(columns: &[(String, Vec<Vec<Figure>>)]) -> String {
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| heading.as_str()).collect();
    let mut lines = vec![format!("| | {} |", headings.join(" | ")), "|---".repeat(columns.len() + 1) + "|"];
    let Some(first) = columns.first().and_then(|(_, rounds)| rounds.first()) else { return String::new() };
    for (row, figure) in first.iter().enumerate() {
        let cells = columns.iter().map(|(_, rounds)| {
            let figures: Vec<&Figure> = rounds.iter().map(|figures| &figures[row]).collect();
            Figure::cell(&figures)
        });
        lines.push(format!("| {} | {} |", figure.name, cells.collect::<Vec<_>>().join(" | ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_held_against_the_median_of_the_first_value() {
        let rounds = |values: [f64; 3]| {
            let round = |first| vec![Figure::new("status", 1, &[first, 99.0]).at_most(50.0)];
            vec![("a fleet".to_owned(), values.map(round).to_vec())]
        };
        assert_eq!(missed(&rounds([49.0, 80.0, 50.0])), [""; 0]);
        assert_eq!(missed(&rounds([49.0, 80.0, 51.0])).len(), 1);
        assert_eq!(missed(&rounds([f64::NAN; 3])).len(), 1);
    }

    #[test]
    fn a_cell_holds_the_median_of_each_value() {
        let round = |first, second| vec![Figure::new("claims", 1, &[first, second])];
        let rounds = vec![round(1.0, f64::NAN), round(9.0, f64::NAN), round(2.0, 5.0)];
        let table = table(&[("a fleet".to_owned(), rounds)]);
        assert_eq!(table, "| | a fleet |\n|---|---|\n| claims | 2.0 / - |");
    }
}
