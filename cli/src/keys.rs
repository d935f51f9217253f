//! Keys pressed while a page is watched.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Reads keys as they are pressed; the terminal is as it was when this is dropped. Where standard input is no terminal, there
/// are no keys.
pub(crate) struct Keys {
    before: Option<Termios>,
}

/// Ctrl-C: while keys are read it comes as one of them, so that the terminal is left as it was.
const INTERRUPT: u8 = 3;

impl Keys {
    pub fn watch() -> Keys {
        let stdin = std::io::stdin();
        let before = if stdin.is_terminal() { tcgetattr(&stdin).ok() } else { None };
        let before = before.filter(|before| {
            let mut keys = before.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
            tcsetattr(&stdin, OptionalActions::Now, &keys).is_ok()
        });
        Keys { before }
    }

    /// Waits this long; true: somebody wants to quit, by `q` or Ctrl-C.
    #[expect(clippy::disallowed_methods, reason = "a person is looking, and there is no runtime")]
    pub fn wants_to_quit(&self, wait: Duration) -> bool {
        if self.before.is_none() {
            std::thread::sleep(wait);
            return false;
        }
        let stdin = std::io::stdin();
        let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
        let limit = Timespec::try_from(wait).ok();
        if !matches!(poll(&mut fds, limit.as_ref()), Ok(1..)) {
            return false;
        }
        let mut key = [0];
        // A terminal that is gone has nobody looking.
        !matches!(stdin.lock().read(&mut key), Ok(1) if !matches!(key[0], b'q' | b'Q' | INTERRUPT))
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // The terminal may be gone.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
