//! A server that shows what it holds, as Go's servers do.
//!
//!     cargo run --release --example pprof_axum --features interpose -- 127.0.0.1:6060
//!     curl http://127.0.0.1:6060/decode/300        # hold something
//!     go tool pprof -http : http://127.0.0.1:6060/debug/pprof/heap
//!
//! `/debug/heap.svg` is a flame graph for the browser, without any tool. In your own
//! server: `heapledger = { version = "0.1", default-features = false, features = ["profile"] }`,
//! the allocator, the line `sample_stacks!`, and the two handlers below. Whoever may ask
//! for them learns the names of your functions: keep them from the public.

use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::routing::get;
use heapledger::Profile;
use heapledger::analysis::Filter;
use tokio::net::TcpListener;

#[global_allocator]
static ALLOC: heapledger::Alloc = heapledger::Alloc::system();

// Whole stacks, of one allocation in 64 KiB; HEAPLEDGER_MODE=count has call sites, exactly.
heapledger::sample_stacks!(64 * 1024);

/// What the server holds: frames that nobody frees.
type Cache = Arc<Mutex<Vec<Vec<u8>>>>;

type Answer = Result<([(HeaderName, &'static str); 1], Vec<u8>), (StatusCode, String)>;

/// `GET /debug/pprof/heap`
async fn heap_pprof() -> Answer {
    answer("application/octet-stream", |profile, body| {
        profile.write_pprof(body)
    })
    .await
}

/// `GET /debug/heap.svg`
async fn heap_svg() -> Answer {
    answer("image/svg+xml", |profile, body| {
        profile.write_flamegraph(&Filter::default(), body)
    })
    .await
}

/// Looks up symbols, which takes its time, beside the threads that serve requests.
async fn answer(
    kind: &'static str,
    write: impl FnOnce(&Profile, &mut Vec<u8>) -> io::Result<()> + Send + 'static,
) -> Answer {
    let failed = |error: String| (StatusCode::SERVICE_UNAVAILABLE, error);
    let work = tokio::task::spawn_blocking(move || {
        let profile = heapledger::profile().map_err(|error| error.to_string())?;
        let mut body = Vec::new();
        write(&profile.with_symbols(), &mut body).map_err(|error| error.to_string())?;
        Ok(body)
    });
    let body = work.await.map_err(|error| failed(error.to_string()))?;
    Ok(([(header::CONTENT_TYPE, kind)], body.map_err(failed)?))
}

/// `GET /decode/N`: holds N frames of 16 KiB more.
async fn decode(State(cache): State<Cache>, Path(frames): Path<usize>) -> String {
    let mut cache = cache.lock().unwrap();
    let _decode = heapledger::scope!("decode");
    cache.extend((0..frames.min(10_000)).map(|_| vec![0u8; 16 << 10]));
    format!("{} frames\n", cache.len())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:6060".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("http://{}/debug/pprof/heap", listener.local_addr()?);
    let routes = Router::new()
        .route("/debug/pprof/heap", get(heap_pprof))
        .route("/debug/heap.svg", get(heap_svg))
        .route("/decode/{frames}", get(decode))
        .with_state(Cache::default());
    axum::serve(listener, routes).await
}
