//! The other end of a [`worker`](super::worker): starts the process, asks for repetitions.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::worker::Reply;
use crate::error::{Error, input};

/// A worker's program.
#[derive(Debug, Clone)]
pub enum Program {
    /// This one.
    Ours,
    /// A Python with PyTorch, and the script.
    PyTorch {
        /// The interpreter.
        python: PathBuf,
        /// `benchmarks/pytorch/mdeq.py`.
        script: PathBuf,
    },
}

impl Program {
    /// The command, up to its first own argument.
    pub fn command(&self, subcommand: &str, threads: usize) -> Result<Command, Error> {
        let mut command = match self {
            Self::Ours => {
                let own = std::env::current_exe()
                    .map_err(|error| Error::Internal(format!("this program cannot find itself: {error}")))?;
                let mut command = Command::new(own);
                command.arg(format!("bench-{subcommand}"));
                command
            }
            Self::PyTorch { python, script } => {
                let mut command = Command::new(python);
                command.arg(script).arg(subcommand);
                command
            }
        };
        command.args(["--threads", &threads.to_string()]);
        Ok(command)
    }

    fn name(&self) -> String {
        match self {
            Self::Ours => "the worker".into(),
            Self::PyTorch { python, script } => format!("{} {}", python.display(), script.display()),
        }
    }
}

/// A worker at work.
pub struct Process {
    name: String,
    child: Child,
    // Dropped first: a worker ends with its input.
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Process {
    /// Starts a worker on a task, a model file and its input, and waits until it is ready.
    pub fn start(
        program: &Program,
        task: &str,
        model: &Path,
        data: &Path,
        threads: usize,
    ) -> Result<Self, Error> {
        let mut command = program.command("worker", threads)?;
        command.args([OsStr::new("--task"), task.as_ref(), "--model".as_ref(), model.as_ref()]);
        command.args([OsStr::new("--input"), data.as_ref()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let name = program.name();
        let mut child = command.spawn().map_err(|error| input(format!("{name}: cannot start: {error}")))?;
        let (Some(requests), Some(replies)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::Internal("a child without its pipes".into()));
        };
        let mut process = Self { name, child, requests: Some(requests), replies: BufReader::new(replies) };
        let line = process.line()?;
        if line != "{\"ready\":true}" {
            return Err(input(format!("{}: said `{line}` instead of {{\"ready\":true}}", process.name)));
        }
        Ok(process)
    }

    /// So many repetitions.
    pub fn run(&mut self, count: usize) -> Result<Reply, Error> {
        let sent = self.requests.as_mut().map(|requests| writeln!(requests, "run {count}"));
        if !matches!(sent, Some(Ok(()))) {
            return Err(self.ended());
        }
        let line = self.line()?;
        let reply: Reply = serde_json::from_str(&line)
            .map_err(|error| input(format!("{}: answered `{line}`: {error}", self.name)))?;
        match reply.seconds.len() == count {
            true => Ok(reply),
            false => Err(input(format!("{}: {} timings for {count}", self.name, reply.seconds.len()))),
        }
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        match self.replies.read_line(&mut line) {
            Ok(count) if count > 0 => Ok(line.trim_end().to_owned()),
            _ => Err(self.ended()),
        }
    }

    fn ended(&self) -> Error {
        input(format!("{}: ended early; what it wrote to standard error says why", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.requests.take();
        // It has nothing left to say: whether it could be waited for changes nothing.
        let _ = self.child.wait();
    }
}
