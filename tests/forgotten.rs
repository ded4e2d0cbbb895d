//! What a program has dropped is forgotten at once. Alone in its file: it counts the memory that the
//! whole process has in use.

mod support;

use std::alloc::System;

use everlink::Client;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::*;

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn in_use() -> usize {
    let stats = HEAP.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

#[test]
fn subscriptions_that_are_dropped_are_forgotten_without_an_event() {
    let listener = Listener::new();
    let client: Client = listener.client().start().unwrap();
    let peer = listener.accept();
    client.wait_connected(PATIENCE).unwrap();
    let stays = client.subscribe();
    // threads of the dialing are ending
    eventually("the four threads of a link", || match everlink_threads() {
        threads if threads.len() == 4 => Ok(()),
        threads => Err(threads),
    });
    let before = in_use();
    for _ in 0..30_000 {
        drop(client.subscribe());
    }
    // each took at least a hundred bytes until the next event
    let grown = in_use().saturating_sub(before);
    assert!(grown < 64 * 1024, "{grown} bytes more than before");
    reset(peer);
    client.close();
    assert!(stays.count() > 0);
}
