//! What the kernel's process connector tells: who executed a program, and how
//! who ended. It misses nobody, however short the life, but is only open to
//! whoever may listen in the first pid and user namespace (Linux 6.6 and later).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Processes that are remembered.
const MAX_LIVES: usize = 65_536;
/// Events that may wait; the kernel drops what finds no room.
static BUFFER_BYTES: libc::c_int = 4 << 20;

// linux/connector.h and linux/cn_proc.h
const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const LISTEN: u32 = 1;
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

/// The listener.
pub(super) struct Lives {
    socket: OwnedFd,
    by_pid: HashMap<u32, Life>,
    order: VecDeque<u32>,
}

impl Lives {
    /// Begins to listen; before the program starts.
    pub(super) fn listen() -> io::Result<Lives> {
        let socket = open_socket()?;
        let lives = Lives {
            socket,
            by_pid: HashMap::new(),
            order: VecDeque::new(),
        };
        lives.subscribe()?;
        Ok(lives)
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
            EVENT_EXEC | EVENT_EXIT,
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
                // Some were lost; the others come.
                Err(rustix::io::Errno::NOBUFS | rustix::io::Errno::INTR) => {}
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
        if !matches!(what, EVENT_EXEC | EVENT_EXIT) {
            return None;
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
