//! A stand-in of Vast.ai to try things on by hand: `vast-stand-in [--port N] [--offers N] [--pace X]`.

use std::io::Read as _;
use std::process::ExitCode;

use tests::vast::{OfferSpec, Settings, StandIn};

/// GPU, its memory in MB, compute capability, $/h.
const OFFERED: [(&str, u64, u32, f64); 4] = [
    ("RTX 4090", 24_564, 890, 0.40),
    ("RTX 3090", 24_576, 860, 0.20),
    ("RTX 5090", 32_607, 1200, 0.60),
    ("H100 SXM", 81_559, 900, 2.00),
];

fn main() -> ExitCode {
    let (mut port, mut offers, mut settings) = (0, 8, Settings { pace: 1.0, ..Settings::default() });
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next();
        let read = match (name.as_str(), &value) {
            ("--port", Some(value)) => value.parse().map(|value| port = value).is_ok(),
            ("--offers", Some(value)) => value.parse().map(|value| offers = value).is_ok(),
            ("--pace", Some(value)) => value.parse().map(|value| settings.pace = value).is_ok(),
            _ => false,
        };
        if !read {
            eprintln!("error: vast-stand-in [--port N] [--offers N] [--pace X]; not understood: {name}");
            return ExitCode::from(2);
        }
    }
    let market = StandIn::start_on(settings, port);
    for (gpu_name, gpu_ram, compute_cap, price) in OFFERED.into_iter().cycle().take(offers) {
        let gpu_name = gpu_name.to_owned();
        let min_bid = price / 2.0;
        market.add_offer(OfferSpec {
            gpu_name,
            gpu_ram,
            compute_cap,
            price,
            min_bid,
            ..OfferSpec::default()
        });
    }
    println!("export VAST_URL={} VAST_API_KEY={}", market.url(), market.key());
    eprintln!("serving {offers} offers until its input ends (Ctrl-D)");
    // Whatever is typed means nothing; a read that fails is an end, too.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}
