//! The upper half: the run in numbers, and its rate over time.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize as _};
use ratatui::symbols;
use ratatui::text::{Line, Span};
use ratatui::widgets::{LineGauge, Paragraph, Sparkline};

use super::draw::{heading, width_of};
use crate::fleet::view::Cost;
use crate::status::Status;
use crate::status::text::duration;
use crate::status::words::{Stage, grouped, percent, share};
use crate::watch::Watched;
use crate::watch::history::Rate;

/// The run, its model and its state; the time to the right.
pub fn title(frame: &mut Frame, area: Rect, watched: &Watched) {
    let status = &watched.status;
    let stage = Stage::of(status);
    let colour = match stage {
        Stage::Running | Stage::Finished => Color::Green,
        Stage::FromStore | Stage::Paused | Stage::Draining => Color::Yellow,
    };
    let left = Line::from(vec![
        Span::from(status.run.to_string()).bold(),
        Span::from("  "),
        Span::styled(stage.words(), Style::new().fg(colour).add_modifier(Modifier::BOLD)),
        Span::from(format!("  {}, {} dimensions", status.model, status.dim)).dim(),
    ]);
    let time = watched.at.strftime("%H:%M:%SZ").to_string();
    let [left_area, right_area] =
        Layout::horizontal([Constraint::Fill(1), Constraint::Length(width_of(&time))]).spacing(1).areas(area);
    frame.render_widget(Paragraph::new(left), left_area);
    frame.render_widget(Paragraph::new(time).dim(), right_area);
}

/// The overall bar.
pub fn bar(frame: &mut Frame, area: Rect, status: &Status) {
    let gauge = LineGauge::default()
        .ratio(share(status).clamp(0.0, 1.0))
        .label(format!("{:5.1} %", percent(status)).bold())
        .filled_symbol(symbols::line::THICK_HORIZONTAL)
        .unfilled_symbol(symbols::line::HORIZONTAL)
        .filled_style(Style::new().fg(Color::Cyan))
        .unfilled_style(Style::new().fg(Color::DarkGray));
    frame.render_widget(gauge, area);
}

/// Items, shards, time and money: a line each.
pub fn figures(status: &Status) -> Vec<Line<'static>> {
    let mut lines = vec![items(status), shards(status), time(status)];
    lines.extend(status.cost.as_ref().map(cost));
    lines
}

fn labelled(label: &str, rest: Vec<Span<'static>>) -> Line<'static> {
    let mut spans = vec![Span::from(format!("{label:<8}")).dim()];
    spans.extend(rest);
    Line::from(spans)
}

fn items(status: &Status) -> Line<'static> {
    let settled = status.items_done + status.items_failed;
    let mut spans =
        vec![Span::from(grouped(settled)).bold(), format!(" of {}", grouped(status.items_total)).into()];
    if status.items_in_flight > 0 {
        spans.push(format!(", {} in flight", grouped(status.items_in_flight)).into());
    }
    if status.items_failed > 0 {
        spans.push(Span::from(format!(", {} failed", grouped(status.items_failed))).yellow());
    }
    labelled("items", spans)
}

fn shards(status: &Status) -> Line<'static> {
    let counts = status.shards;
    let mut spans = vec![
        Span::from(grouped(counts.done)).bold(),
        format!(" of {} done", grouped(counts.total())).into(),
        format!(", {} leased, {} pending", grouped(counts.leased), grouped(counts.pending)).into(),
    ];
    if counts.delayed > 0 {
        spans.push(Span::from(format!(", {} delayed", grouped(counts.delayed))).yellow());
    }
    if counts.dead > 0 {
        spans.push(Span::from(format!(", {} dead", grouped(counts.dead))).red().bold());
    }
    labelled("shards", spans)
}

fn time(status: &Status) -> Line<'static> {
    let Some(rate) = status.items_per_second else {
        return labelled("rate", vec!["unknown without the queue".into()]);
    };
    let left = status.eta_seconds.map_or_else(|| "unknown".to_owned(), duration);
    labelled(
        "rate",
        vec![Span::from(format!("{rate:.2}")).bold(), " items/s, time left ".into(), Span::from(left).bold()],
    )
}

fn cost(cost: &Cost) -> Line<'static> {
    let mut text = match cost.billed {
        Some(billed) => format!("{billed} billed"),
        None => format!("{} so far, {} an hour", cost.so_far, cost.an_hour),
    };
    if let Some(projected) = cost.projected {
        text += &format!(", about {projected} at the end");
    }
    if let Some(budget) = cost.budget {
        text += &format!(", budget {budget}");
    }
    labelled("cost", vec![text.into()])
}

/// The rate over time, the newest to the right.
pub fn rates(frame: &mut Frame, area: Rect, rates: &[Rate]) {
    let highest = rates.iter().map(|rate| rate.items_per_second).fold(0.0, f64::max);
    let span = match (rates.first(), rates.last()) {
        (Some(first), Some(last)) if last.at > first.at => {
            format!("items/s over {}, highest {highest:.1}", duration(last.at - first.at))
        }
        _ => "items/s".to_owned(),
    };
    let block = heading(&span, false);
    let inner = block.inner(area);
    frame.render_widget(block, area);
    let bars = bars(rates, usize::from(inner.width));
    let line = Sparkline::default().data(bars).style(Style::new().fg(Color::Cyan));
    frame.render_widget(line, inner);
}

/// As many bars as there is room for, in thousandths of an item a second, each the mean of its share of the points.
fn bars(rates: &[Rate], room: usize) -> Vec<u64> {
    let count = rates.len().min(room);
    (0..count)
        .map(|bar| {
            let share = &rates[bar * rates.len() / count..(bar + 1) * rates.len() / count];
            let mean = share.iter().map(|rate| rate.items_per_second).sum::<f64>() / share.len() as f64;
            (mean * 1e3) as u64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Rate, bars};

    #[test]
    fn many_points_share_bars() {
        let rates: Vec<Rate> =
            (0..10).map(|n| Rate { at: f64::from(n), items_per_second: f64::from(n) }).collect();
        assert_eq!(bars(&rates, 5), [500, 2_500, 4_500, 6_500, 8_500]);
        assert_eq!(bars(&rates[..3], 5), [0, 1_000, 2_000]);
        assert_eq!(bars(&[], 5), [0; 0]);
        assert_eq!(bars(&rates, 0), [0; 0]);
    }
}
