//! What the kernel's process connector tells: who was forked by whom, who
//! executed a program, and how who ended. It misses nobody, however short the
//! life, but is only open to whoever may listen in the first pid and user
//! namespace (Linux 6.6 and later).

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::proc;

/// Processes that are remembered, and programs that the root's descendants executed.
const MAX_LIVES: usize = 65_536;
/// Events that may wait; the kernel drops what finds no room.
static BUFFER_BYTES: libc::c_int = 4 << 20;

// linux/connector.h and linux/cn_proc.h
const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const LISTEN: u32 = 1;
const EVENT_FORK: u32 = 0x1;
const EVENT_EXEC: u32 = 0x2;
const EVENT_EXIT: u32 = 0x8000_0000;
/// Netlink's header and the connector's.
const HEAD_BYTES: usize = 16 + 20;

#[derive(Clone, Copy, Default)]
struct Life {
    executed_mono_ns: u64,
    ended_mono_ns: u64,
    wait_status: i32,
}

/// The file of a program that was executed.
#[derive(Clone, Debug)]
pub(super) struct Executed {
    pub path: PathBuf,
    /// Device and inode, since the path may be that of another root directory.
    identity: (u64, u64),
}

impl Executed {
    fn of(pid: u32) -> Option<Executed> {
        let found = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
        Some(Executed {
            path: proc::exe(pid)?,
            identity: (found.dev(), found.ino()),
        })
    }

    /// Gives the path, if it still leads to that file from here.
    pub(super) fn file(&self) -> Option<&Path> {
        let found = fs::metadata(&self.path).ok()?;
        ((found.dev(), found.ino()) == self.identity).then_some(self.path.as_path())
    }
}

/// A program that the root or a descendant of it became.
#[derive(Clone, Debug)]
pub(super) struct Execution {
    pub pid: u32,
    /// Who forked the process.
    pub parent_pid: u32,
    pub mono_ns: u64,
    /// `None` where it had ended before it could be looked at.
    pub executed: Option<Executed>,
}

/// The listener.
pub(super) struct Lives {
    socket: OwnedFd,
    by_pid: HashMap<u32, Life>,
    order: VecDeque<u32>,
    root_pid: u32,
    /// The root and its descendants, ended ones as well, with who forked each.
    tree: HashMap<u32, u32>,
    executions: Vec<Execution>,
}

impl Lives {
    /// Begins to listen; before the program starts.
    pub(super) fn listen() -> io::Result<Lives> {
        let socket = open_socket()?;
        let lives = Lives {
            socket,
            by_pid: HashMap::new(),
            order: VecDeque::new(),
            root_pid: 0,
            tree: HashMap::new(),
            executions: Vec::new(),
        };
        lives.subscribe()?;
        Ok(lives)
    }

    /// Tells whose descendants matter; before anything is taken in.
    pub(super) fn follow(&mut self, root_pid: u32) {
        self.root_pid = root_pid;
        self.tree.insert(root_pid, std::process::id());
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn subscribe(&self) -> io::Result<()> {
        let total = (HEAD_BYTES + 8) as u32;
        // nlmsghdr; cn_msg with its two 16-bit fields in one word; proc_input
        let words = [
            total,
            libc::NLMSG_DONE as u32,
            0,
            0,
            CN_IDX_PROC,
            CN_VAL_PROC,
            0,
            0,
            8,
            LISTEN,
            EVENT_FORK | EVENT_EXEC | EVENT_EXIT,
        ];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        match rustix::io::write(&self.socket, &bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes in what has been told.
    pub(super) fn hear(&mut self) {
        let mut message = [0u8; 512];
        loop {
            match rustix::io::read(&self.socket, &mut message[..]) {
                Ok(length) => drop(self.note(&message[..length])),
                Err(rustix::io::Errno::INTR) => {}
                // Some were lost; the others come. Whose numbers have been given away is not known.
                Err(rustix::io::Errno::NOBUFS) => self.tree.clear(),
                Err(_) => return,
            }
        }
    }

    fn note(&mut self, message: &[u8]) -> Option<()> {
        let event = message.get(HEAD_BYTES..)?;
        let word = |at: usize| Some(u32::from_ne_bytes(event.get(at..at + 4)?.try_into().ok()?));
        let mono_ns = u64::from_ne_bytes(event.get(8..16)?.try_into().ok()?);
        // Each thread tells of its end; the last one's code is the process's.
        let (what, pid) = (word(0)?, word(20)?);
        if what == EVENT_FORK {
            let (thread, process) = (word(24)?, word(28)?);
            if thread == process {
                self.note_child(pid, process);
            }
            return None;
        }
        if !matches!(what, EVENT_EXEC | EVENT_EXIT) {
            return None;
        }
        if what == EVENT_EXEC {
            self.note_execution(pid, mono_ns);
        }
        if !self.by_pid.contains_key(&pid) {
            self.order.push_back(pid);
            if self.order.len() > MAX_LIVES {
                let oldest = self.order.pop_front()?;
                self.by_pid.remove(&oldest);
            }
        }
        let life = self.by_pid.entry(pid).or_default();
        match what {
            EVENT_EXEC => life.executed_mono_ns = mono_ns,
            _ => (life.ended_mono_ns, life.wait_status) = (mono_ns, word(24)? as i32),
        }
        Some(())
    }

    fn note_child(&mut self, parent_pid: u32, pid: u32) {
        if pid == self.root_pid {
            return;
        }
        match self.tree.contains_key(&parent_pid) {
            true => self.tree.insert(pid, parent_pid),
            // Somebody else has the number now.
            false => self.tree.remove(&pid),
        };
    }

    fn note_execution(&mut self, pid: u32, mono_ns: u64) {
        if let Some(&parent_pid) = self.tree.get(&pid)
            && self.executions.len() < MAX_LIVES
        {
            self.executions.push(Execution {
                pid,
                parent_pid,
                mono_ns,
                executed: Executed::of(pid),
            });
        }
    }

    /// Tells whether a process with this number descends from the root.
    pub(super) fn descends(&self, pid: u32) -> bool {
        self.tree.contains_key(&pid)
    }

    /// Gives what the root and its descendants executed, in order.
    pub(super) fn executions(&self) -> &[Execution] {
        &self.executions
    }

    /// Gives the wait status of a process that ended after this moment.
    pub(super) fn wait_status(&self, pid: u32, after_mono_ns: u64) -> Option<i32> {
        let life = self.by_pid.get(&pid)?;
        (life.ended_mono_ns > after_mono_ns).then_some(life.wait_status)
    }

    /// Gives when the process last became another program, if after this moment.
    pub(super) fn executed(&self, pid: u32, after_mono_ns: u64) -> Option<u64> {
        let life = self.by_pid.get(&pid)?;
        Some(life.executed_mono_ns).filter(|&at| at > after_mono_ns)
    }
}

fn open_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: the descriptor is new and owned here only.
    let socket = unsafe {
        match libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) {
            -1 => return Err(io::Error::last_os_error()),
            descriptor => OwnedFd::from_raw_fd(descriptor),
        }
    };
    // SAFETY: the option is an int, the address a zeroed sockaddr_nl, in which
    // every pattern of bytes is valid; the kernel is told their sizes.
    let bound = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            (&raw const BUFFER_BYTES).cast(),
            size_of::<libc::c_int>() as u32,
        );
        let mut address: libc::sockaddr_nl = std::mem::zeroed();
        address.nl_family = libc::AF_NETLINK as u16;
        address.nl_groups = CN_IDX_PROC;
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_nl>() as u32,
        )
    };
    match bound {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lives() -> Lives {
        Lives {
            socket: std::os::unix::net::UnixDatagram::unbound().unwrap().into(),
            by_pid: HashMap::new(),
            order: VecDeque::new(),
            root_pid: 0,
            tree: HashMap::new(),
            executions: Vec::new(),
        }
    }

    /// One of the kernel's messages: the event, its time, and what it is about.
    fn told(lives: &mut Lives, event: u32, mono_ns: u64, about: [u32; 4]) {
        let mut message = vec![0u8; HEAD_BYTES];
        message.extend(event.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(mono_ns.to_ne_bytes());
        message.extend(about.iter().flat_map(|word| word.to_ne_bytes()));
        lives.note(&message);
    }

    #[test]
    fn what_descendants_execute_is_kept_and_what_others_execute_is_not() {
        let mut lives = lives();
        lives.follow(100);
        told(&mut lives, EVENT_FORK, 1, [1, 1, 100, 100]);
        told(&mut lives, EVENT_EXEC, 2, [100, 100, 0, 0]);
        told(&mut lives, EVENT_FORK, 3, [100, 100, 101, 100]); // a thread of the root
        told(&mut lives, EVENT_FORK, 4, [101, 100, 102, 102]); // which forks
        told(&mut lives, EVENT_FORK, 5, [7, 7, 103, 103]);
        told(&mut lives, EVENT_EXEC, 6, [102, 102, 0, 0]);
        told(&mut lives, EVENT_EXEC, 7, [103, 103, 0, 0]);
        let kept = |lives: &Lives| -> Vec<(u32, u32, u64)> {
            let all = lives.executions().iter();
            all.map(|one| (one.pid, one.parent_pid, one.mono_ns))
                .collect()
        };
        assert_eq!(kept(&lives), [(100, std::process::id(), 2), (102, 100, 6)]);
        assert!(!lives.descends(101) && !lives.descends(103));
        // The number of one that ended goes to somebody else's child.
        told(&mut lives, EVENT_EXIT, 8, [102, 102, 0, 0]);
        assert!(lives.descends(102));
        told(&mut lives, EVENT_FORK, 9, [7, 7, 102, 102]);
        told(&mut lives, EVENT_EXEC, 10, [102, 102, 0, 0]);
        assert!(!lives.descends(102));
        assert_eq!(kept(&lives).len(), 2);
    }
}
