//! What a key means.

use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::screen::Scroll;
use crate::watch::control::Order;

/// What the person wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To leave.
    Leave,
    /// To leave as by Ctrl-C.
    Interrupt,
    /// To move a list.
    Scroll(Scroll),
    /// To move the other list.
    Other,
    /// To tell the queue something.
    Give(Order),
}

/// The meaning of an event, where it has one.
pub fn wish(event: Event) -> Option<Wish> {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return None };
    if kind == KeyEventKind::Release {
        return None;
    }
    if modifiers.contains(KeyModifiers::CONTROL) {
        return (code == KeyCode::Char('c')).then_some(Wish::Interrupt);
    }
    Some(match code {
        KeyCode::Char('q') | KeyCode::Esc => Wish::Leave,
        KeyCode::Char('p') => Wish::Give(Order::Pause),
        KeyCode::Char('r') => Wish::Give(Order::Resume),
        KeyCode::Tab | KeyCode::BackTab => Wish::Other,
        KeyCode::Up | KeyCode::Char('k') => Wish::Scroll(Scroll::Rows(-1)),
        KeyCode::Down | KeyCode::Char('j') => Wish::Scroll(Scroll::Rows(1)),
        KeyCode::PageUp => Wish::Scroll(Scroll::Pages(-1)),
        KeyCode::PageDown | KeyCode::Char(' ') => Wish::Scroll(Scroll::Pages(1)),
        KeyCode::Home => Wish::Scroll(Scroll::First),
        KeyCode::End => Wish::Scroll(Scroll::Last),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_last_line_says() {
        let press = |code, modifiers| wish(Event::Key(KeyEvent::new(code, modifiers)));
        let plain = |code| press(code, KeyModifiers::NONE);
        assert_eq!(plain(KeyCode::Char('p')), Some(Wish::Give(Order::Pause)));
        assert_eq!(plain(KeyCode::Char('r')), Some(Wish::Give(Order::Resume)));
        assert_eq!(plain(KeyCode::Char('q')), Some(Wish::Leave));
        assert_eq!(plain(KeyCode::Down), Some(Wish::Scroll(Scroll::Rows(1))));
        assert_eq!(press(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Wish::Interrupt));
        assert_eq!(press(KeyCode::Char('p'), KeyModifiers::CONTROL), None);
        assert_eq!(plain(KeyCode::Char('x')), None);
        assert_eq!(wish(Event::Resize(80, 24)), None);
    }
}
