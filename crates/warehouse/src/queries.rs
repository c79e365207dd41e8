//! Threads of their own for queries, and one for merging files.
//!
//! A query may keep its threads busy for minutes. On the threads that answer the gateway and hear of revocations it would make
//! the whole role look dead, and end everybody's right to read.

use tokio::runtime::{Builder, Handle, Runtime};

/// Plans are walked recursively, one call for each operator of a long chain.
const STACK: usize = 32 << 20;

/// The threads on which queries run.
#[derive(Debug)]
pub(crate) struct Queries(Option<Runtime>);

impl Queries {
    /// Starts `threads` of them, of this name.
    pub(crate) fn start(name: &str, threads: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name(name)
            .thread_stack_size(STACK)
            .enable_all()
            .build()?;
        Ok(Self(Some(runtime)))
    }

    /// Where to start a query.
    pub(crate) fn handle(&self) -> Handle {
        self.0.as_ref().expect("taken only when dropped").handle().clone()
    }
}

impl Drop for Queries {
    fn drop(&mut self) {
        // A runtime that is dropped inside another waits for its tasks, and may not.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
