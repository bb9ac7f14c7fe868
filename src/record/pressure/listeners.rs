//! systemd's memory-pressure protocol, spoken from the service manager's side.
//!
//! MEMORY_PRESSURE_WATCH may name a PSI file, a FIFO or a socket. Of these only
//! a socket reaches each of several processes: what is written to a FIFO is read
//! by one of them. The kernel says who has connected, so each process hears of
//! its own pressure alone.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Where a program is told to watch; `/dev/null` for nowhere.
pub(super) const WATCH: &str = "MEMORY_PRESSURE_WATCH";
/// What it is to write there first, in base64.
const WRITE: &str = "MEMORY_PRESSURE_WRITE";
/// `some 200000 2000000` and a NUL, as for the kernel's own file. We discard it.
const TRIGGER: &str = "c29tZSAyMDAwMDAgMjAwMDAwMAA=";

/// Connections that are kept; a program opens one or a few.
const MAX_CONNECTIONS: usize = 16_384;

/// Those who want to be told.
pub(super) struct Listeners {
    socket: UnixListener,
    path: PathBuf,
    connections: Mutex<Vec<Connection>>,
}

struct Connection {
    /// Who has connected, as we number processes; 0 where we cannot see it.
    pid: u32,
    stream: UnixStream,
}

impl Listeners {
    /// Opens a socket in the directory of ledgers; who comes waits for [`Listeners::serve`].
    pub(super) fn open(directory: &Path) -> io::Result<Arc<Listeners>> {
        let path = directory.join("pressure");
        let socket = UnixListener::bind(&path)?;
        // The directory keeps strangers out; our own programs may have given up privileges.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666))?;
        socket.set_nonblocking(true)?;
        Ok(Arc::new(Listeners {
            socket,
            path,
            connections: Mutex::default(),
        }))
    }

    /// Lets in whoever comes, on a thread: by now the signals that are read by descriptor
    /// must be blocked, since a new thread has its maker's mask.
    pub(super) fn serve(self: &Arc<Listeners>) -> io::Result<()> {
        let doorman = Arc::clone(self);
        let thread = std::thread::Builder::new().name("listeners".into());
        thread.spawn(move || doorman.admit_all())?;
        Ok(())
    }

    /// Gives the variables by which programs find us.
    pub(super) fn variables(&self) -> [(&'static str, OsString); 2] {
        let path = self.path.clone().into_os_string();
        [(WATCH, path), (WRITE, TRIGGER.into())]
    }

    /// Tells a process of pressure; gives how many of its connections were told.
    pub(super) fn tell(&self, pid: u32) -> usize {
        let mut connections = self.connections();
        self.admit(&mut connections);
        let mut told = 0;
        connections.retain_mut(|connection| {
            let is_open = connection.pid != pid || connection.tell();
            told += usize::from(connection.pid == pid && is_open);
            is_open
        });
        told
    }

    fn connections(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Who connects waits until we accept, so somebody always does. Ends with the recorder.
    fn admit_all(&self) {
        let mut at_door = [PollFd::new(&self.socket, PollFlags::IN)];
        while poll(&mut at_door, None).is_ok_and(|ready| ready > 0)
            || io::Error::last_os_error().kind() == ErrorKind::Interrupted
        {
            self.admit(&mut self.connections());
        }
    }

    fn admit(&self, connections: &mut Vec<Connection>) {
        while let Ok((stream, _)) = self.socket.accept() {
            if connections.len() >= MAX_CONNECTIONS {
                connections.retain(|connection| !connection.is_closed());
            }
            if connections.len() < MAX_CONNECTIONS && stream.set_nonblocking(true).is_ok() {
                let pid = peer(&stream);
                connections.push(Connection { pid, stream });
            }
        }
    }
}

impl Connection {
    /// Writes a byte, which makes the other end readable; false when there is no other end.
    ///
    /// One who does not read has been told already: a full socket is readable.
    fn tell(&mut self) -> bool {
        let mut written_first = [0u8; 256];
        while self
            .stream
            .read(&mut written_first)
            .is_ok_and(|bytes| bytes > 0)
        {}
        match self.stream.write(b"\n") {
            Ok(bytes) => bytes == 1,
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
    }

    fn is_closed(&self) -> bool {
        let descriptor = self.stream.as_fd();
        let mut ends = [PollFd::from_borrowed_fd(descriptor, PollFlags::empty())];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let is_polled = poll(&mut ends, Some(&at_once)).is_ok();
        is_polled
            && ends[0]
                .revents()
                .intersects(PollFlags::HUP | PollFlags::ERR)
    }
}

/// Gives the process that connected.
fn peer(stream: &UnixStream) -> u32 {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut bytes = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: room for the answer, and its length.
    unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut bytes,
        );
    }
    u32::try_from(peer.pid).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connection_of_a_process_is_told_and_no_other_process() {
        let directory = tempfile::tempdir().unwrap();
        let listeners = Listeners::open(directory.path()).unwrap();
        listeners.serve().unwrap();
        let mut ends: Vec<UnixStream> = (0..3)
            .map(|_| UnixStream::connect(&listeners.path).unwrap())
            .collect();
        ends[0].write_all(b"some 200000 2000000\0").unwrap();
        let me = std::process::id();
        assert_eq!(listeners.tell(me), 3);
        assert_eq!(listeners.tell(me + 1), 0);
        let mut byte = [0u8; 8];
        assert!(ends.iter_mut().all(|end| end.read(&mut byte).unwrap() == 1));
        drop(ends.pop());
        assert_eq!(listeners.tell(me), 2);
    }

    #[test]
    fn who_never_reads_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let listeners = Listeners::open(directory.path()).unwrap();
        listeners.serve().unwrap();
        let end = UnixStream::connect(&listeners.path).unwrap();
        let me = std::process::id();
        assert!((0..100_000).all(|_| listeners.tell(me) == 1));
        drop(end);
    }
}
