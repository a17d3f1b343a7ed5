//! A program on a terminal of its own: what it draws, and keys for it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::program::{Program, Running};
use crate::wait::until;

/// A terminal with a program on it.
pub struct Terminal {
    keyboard: File,
    /// Kept open, so that the terminal outlives the program.
    line: OwnedFd,
    drawn: Arc<Mutex<vt100::Parser>>,
    program: Running,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn some(count: u16) -> NonZeroU16 {
    NonZeroU16::new(count).unwrap()
}

impl Terminal {
    /// Starts a program on a terminal of so many rows and columns, or says visibly that there is no `setsid`.
    ///
    /// # Panics
    /// When there are no terminals.
    pub fn start(program: Program, rows: u16, columns: u16) -> Option<Self> {
        if Command::new("setsid").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: setsid is not installed");
            return None;
        }
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let line = rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        tcsetwinsize(&line, size(rows, columns)).unwrap();
        // A session of its own, so that the terminal is its own and tells it of a new size.
        let inner = program.into_command();
        let mut command = Command::new("setsid");
        command.arg("--ctty").arg(inner.get_program()).args(inner.get_args()).env("TERM", "xterm-256color");
        if let Some(folder) = inner.get_current_dir() {
            command.current_dir(folder);
        }
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let end = || Stdio::from(line.try_clone().unwrap());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let drawn = Arc::new(Mutex::new(vt100::Parser::new(some(rows), some(columns), 0)));
        let keyboard = File::from(master);
        read_on(keyboard.try_clone().unwrap(), Arc::clone(&drawn));
        Some(Self { keyboard, line, drawn, program: Running::from_child(child) })
    }

    fn screen<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.drawn.lock().unwrap_or_else(PoisonError::into_inner).screen())
    }

    /// What is seen.
    pub fn text(&self) -> String {
        self.screen(vt100::Screen::contents)
    }

    /// Whether the program draws on the second screen, beside that of the shell.
    pub fn is_on_second_screen(&self) -> bool {
        self.screen(vt100::Screen::alternate_screen)
    }

    /// Whether the cursor is seen.
    pub fn shows_cursor(&self) -> bool {
        self.screen(|screen| !screen.hide_cursor())
    }

    /// Whether lines are edited and keys echoed, as a shell left it.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn is_cooked(&self) -> bool {
        let modes = tcgetattr(&self.line).unwrap().local_modes;
        modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// Waits until this is seen.
    pub fn wait_for(&self, text: &str) {
        until(&format!("{text:?} on the terminal"), || self.text().contains(text).then_some(()));
    }

    /// Types.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// Gives the terminal another size.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let mut drawn = self.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        drawn.screen_mut().set_size(some(rows), some(columns));
        drop(drawn);
        tcsetwinsize(&self.line, size(rows, columns)).unwrap();
    }

    /// The program.
    pub fn program(&mut self) -> &mut Running {
        &mut self.program
    }
}

/// Takes in what is drawn until the terminal is gone.
fn read_on(mut screen: File, drawn: Arc<Mutex<vt100::Parser>>) {
    std::thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = screen.read(&mut bytes) {
            drawn.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
        }
    });
}
