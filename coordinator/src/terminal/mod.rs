//! A run on the whole terminal: `status --watch` where somebody sits.
//!
//! What is shown is a pure function of a [`Screen`] ([`draw`]); what a key does to the screen is another ([`keys`]).

mod draw;
mod fleet;
mod keys;
mod numbers;
mod screen;
#[cfg(test)]
mod tests;

use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::status::words::Stage;
use crate::watch::control::Order;
use crate::watch::feed::Feed;
use keys::{Wish, wish};
pub use screen::Screen;

/// How long the thread that reads keys waits before it looks whether anybody still listens.
const KEY_WAIT: Duration = Duration::from_millis(200);

/// How the watching ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The run is done.
    Finished,
    /// By the person.
    Left,
    /// By Ctrl-C.
    Interrupted,
}

/// The terminal while it is ours; given back on drop, and by ratatui's hook when the program panics. One that was hung up
/// takes nothing back, and no complaint either: ratatui's own drop would print one, and fail.
struct Whole(ManuallyDrop<DefaultTerminal>);

impl Whole {
    fn take() -> std::io::Result<Self> {
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(ManuallyDrop::new(terminal))),
            Err(error) => {
                // It may have been taken by half.
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }
}

impl Drop for Whole {
    fn drop(&mut self) {
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// Shows the run until it is done or the person leaves. The terminal is given back when this future ends or is
/// dropped, so by any signal that ends the command too.
pub async fn watch(feed: &Feed) -> Result<Ended, Failure> {
    let mut terminal = Whole::take()?;
    let mut events = read_events();
    // Their default would end the program and leave the terminal as it is.
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut seen = feed.watch();
    let mut screen = Screen::new(Arc::clone(&seen.borrow()), feed.control().is_possible());
    let (said, mut answers) = mpsc::unbounded_channel();
    loop {
        let mut place = screen.place;
        terminal.0.draw(|frame| place = draw::draw(frame, &screen))?;
        screen.place = place;
        if Stage::of(&screen.watched.status) == Stage::Finished {
            return Ok(Ended::Finished);
        }
        tokio::select! {
            changed = seen.changed() => match changed {
                Ok(()) => screen.watched = Arc::clone(&seen.borrow_and_update()),
                Err(_) => return Ok(Ended::Left),
            },
            event = events.recv() => {
                // Without keys nobody could leave.
                let Some(event) = event else { return Ok(Ended::Left) };
                match wish(event) {
                    Some(Wish::Leave) => return Ok(Ended::Left),
                    Some(Wish::Interrupt) => return Ok(Ended::Interrupted),
                    Some(Wish::Scroll(scroll)) => screen.scroll(scroll),
                    Some(Wish::Other) => screen.focus = screen.focus.other(),
                    Some(Wish::Give(order)) => {
                        screen.message = Some("...".to_owned());
                        give(feed, order, said.clone());
                    }
                    // A resize, or a key without a meaning: drawn again.
                    None => {}
                }
            }
            Some(answer) = answers.recv() => screen.message = Some(answer),
            _ = hang_up.recv() => return Ok(Ended::Left),
            _ = quit.recv() => return Ok(Ended::Left),
        }
    }
}

/// Gives an order beside the drawing: a queue that is away answers late.
fn give(feed: &Feed, order: Order, said: mpsc::UnboundedSender<String>) {
    let feed = feed.clone();
    tokio::spawn(async move {
        let answer = match feed.control().give(order).await {
            Ok(()) => done(order).to_owned(),
            Err(failure) => format!("not done: {:#}", failure.error),
        };
        feed.look_now();
        // Nobody listens where the person has left.
        let _ = said.send(answer);
    });
}

fn done(order: Order) -> &'static str {
    match order {
        Order::Pause => "paused: workers finish what they hold and claim nothing",
        Order::Resume => "workers claim again",
        Order::Drain => "draining",
    }
}

/// What the person does, read on a thread of its own, which ends soon after nobody listens any more.
fn read_events() -> mpsc::UnboundedReceiver<Event> {
    let (sender, receiver) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while !sender.is_closed() {
            match event::poll(KEY_WAIT) {
                Ok(false) => continue,
                Ok(true) => {}
                Err(_) => return,
            }
            let Ok(event) = event::read() else { return };
            if sender.send(event).is_err() {
                return;
            }
        }
    });
    receiver
}
