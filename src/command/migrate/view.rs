//! A run on the terminal while it goes on: a reader of the events that all others get, and a hand
//! at the dials that a control socket turns too.

mod draw;
mod screen;

use std::io::{IsTerminal, Stderr, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use calve_migrate::Dials;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::{cursor, execute, terminal};
use signal_hook::consts::{SIGINT, SIGTERM, SIGTSTP};
use signal_hook::low_level;

use super::control;
use crate::exit::{Code, Failure};
pub(super) use screen::Screen;
use screen::Wish;

/// How often it is drawn anew where no key is pressed, in milliseconds.
const STEP: u8 = 200;

/// Whether the terminal shows the run now, and so has to be given back.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The terminal, taken for a run. It is given back when this goes away, and when anything panics.
pub(super) struct Window {
    terminal: Terminal<CrosstermBackend<Stderr>>,
    /// Somebody asked to stop for now: to be suspended.
    suspend: Arc<AtomicBool>,
    is_colored: bool,
}

impl Window {
    pub(super) fn open() -> Result<Self, Failure> {
        if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
            return Err(Failure::usage("--live: standard input and error are no terminal")
                .next("-p, --events, --metrics and --control tell the same without one"));
        }
        let failed = |error: std::io::Error| {
            Failure::new(Code::Failed, format!("--live: taking the terminal: {error}"))
        };
        let suspend = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTSTP, Arc::clone(&suspend)).map_err(failed)?;
        let said = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            said(panic);
        }));
        take().map_err(failed)?;
        let terminal = Terminal::new(CrosstermBackend::new(std::io::stderr()));
        let terminal = terminal.map_err(|error| {
            give_back();
            failed(error)
        })?;
        // The word of those who want none: https://no-color.org.
        let is_colored = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Ok(Self { terminal, suspend, is_colored })
    }

    /// Shows the run until it is over. A terminal that is gone ends the view, and not the run.
    pub(super) fn show(mut self, screen: &Mutex<Screen>, dials: &Dials, over: &AtomicBool) {
        let started = Instant::now();
        while !over.load(Ordering::Relaxed) && IS_TAKEN.load(Ordering::SeqCst) {
            if self.step(screen, dials, started).is_err() {
                return;
            }
        }
    }

    fn step(
        &mut self,
        screen: &Mutex<Screen>,
        dials: &Dials,
        started: Instant,
    ) -> std::io::Result<()> {
        if self.suspend.swap(false, Ordering::Relaxed) {
            self.be_suspended()?;
        }
        let locked = || screen.lock().unwrap_or_else(PoisonError::into_inner);
        locked().tick(started.elapsed(), dials.now());
        let is_colored = self.is_colored;
        self.terminal.draw(|frame| draw::draw(&locked(), frame, is_colored))?;
        if !has_input()? {
            return Ok(());
        }
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    let wish = wish(key, &mut locked());
                    self.fulfil(wish, dials)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn fulfil(&mut self, wish: Option<Wish>, dials: &Dials) -> std::io::Result<()> {
        match wish {
            Some(Wish::Word(word, value)) => {
                if let Some(settings) = control::change(dials.now(), word, value.as_deref()) {
                    dials.change(|now| *now = settings);
                }
            }
            // As if somebody had sent it.
            Some(Wish::Stop) => low_level::raise(SIGTERM)?,
            Some(Wish::Interrupt) => low_level::raise(SIGINT)?,
            Some(Wish::Redraw) => self.terminal.clear()?,
            Some(Wish::Suspend) => self.suspend.store(true, Ordering::Relaxed),
            None => {}
        }
        Ok(())
    }

    /// Gives the terminal back, stops this process, and takes it again when that goes on.
    fn be_suspended(&mut self) -> std::io::Result<()> {
        give_back();
        low_level::emulate_default_handler(SIGTSTP)?;
        take()?;
        self.terminal.clear()
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        give_back();
    }
}

fn take() -> std::io::Result<()> {
    terminal::enable_raw_mode()?;
    IS_TAKEN.store(true, Ordering::SeqCst);
    let taken = execute!(std::io::stderr(), terminal::EnterAlternateScreen, cursor::Hide);
    taken.inspect_err(|_| give_back())
}

/// Gives the terminal back, once: what was on it is there again.
fn give_back() {
    if !IS_TAKEN.swap(false, Ordering::SeqCst) {
        return;
    }
    // Of a terminal that is gone nothing has to be restored.
    let _ = execute!(std::io::stderr(), cursor::Show, terminal::LeaveAlternateScreen);
    let _ = terminal::disable_raw_mode();
    let _ = std::io::stderr().flush();
}

/// Waits a moment for a key. A terminal that was hung up is an error: crossterm would read its end
/// again and again, and never return.
fn has_input() -> std::io::Result<bool> {
    let stdin = std::io::stdin();
    let mut asked = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    match nix::poll::poll(&mut asked, STEP) {
        Err(Errno::EINTR) => return Ok(false),
        done => done?,
    };
    let told = asked[0].revents().unwrap_or(PollFlags::POLLERR);
    if told.intersects(PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(told.contains(PollFlags::POLLIN))
}

fn wish(key: KeyEvent, screen: &mut Screen) -> Option<Wish> {
    match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
        (KeyCode::Char('c'), true) => Some(Wish::Interrupt),
        (KeyCode::Char('z'), true) => Some(Wish::Suspend),
        // What another process writes to the terminal is on the screen too.
        (KeyCode::Char('l'), true) => Some(Wish::Redraw),
        (_, true) => None,
        (KeyCode::Char(pressed), false) => screen.press(pressed),
        (KeyCode::Esc, false) => screen.press('n'),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
