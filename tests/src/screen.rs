//! A terminal of a certain size that shows what weir prints to it.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::process::binary;
use crate::wait::{PATIENCE, moment};

/// Runs `weir` on a terminal of so many columns; gives what is on the screen, with escape sequences where there are colours.
pub fn weir_on_terminal(dir: &Path, columns: u16, has_colour: bool, args: &[&str]) -> String {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let side = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&side, size).unwrap();
    let stream = || Stdio::from(side.try_clone().unwrap());
    let mut command = Command::new(binary());
    command.args(args).current_dir(dir).env("TERM", "xterm").env_remove("NO_COLOR");
    if !has_colour {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.stdin(stream()).stdout(stream()).stderr(stream()).spawn().unwrap();
    // The command holds copies of the terminal's other side, which must be gone for its end to be seen.
    drop(command);
    drop(side);
    let deadline = Instant::now() + PATIENCE;
    let mut terminal = File::from(terminal);
    let reading = std::thread::spawn(move || {
        let (mut all, mut part) = (Vec::new(), [0; 4096]);
        // EIO: nobody has the other side any more.
        while let Ok(count @ 1..) = terminal.read(&mut part) {
            all.extend_from_slice(&part[..count]);
        }
        all
    });
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        moment();
    }
    String::from_utf8(reading.join().unwrap()).unwrap().replace("\r\n", "\n")
}
