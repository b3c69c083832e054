//! Loads a data set and says what it holds and how long that took:
//! `cargo run --release -p equipoise-dataset --example load -- cifar10:PATH`

use std::time::Instant;

use equipoise_dataset::{DatasetError, Source, Split};

fn main() -> Result<(), DatasetError> {
    let source: Source = std::env::args().nth(1).as_deref().unwrap_or("digits").parse()?;
    for split in Split::ALL {
        let start = Instant::now();
        let set = source.load(split)?;
        let seconds = start.elapsed().as_secs_f64();
        println!("{} {split}: {} images {:?}, {seconds:.3} s", set.name, set.len(), set.shape);
    }
    Ok(())
}
