//! The header is what the library is. `EVERLINK_WRITE_HEADER=1 cargo test --test header` writes it anew.

use std::path::Path;

#[test]
fn the_header_is_up_to_date() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(here.join("cbindgen.toml")).unwrap();
    let bindings =
        cbindgen::Builder::new().with_config(config).with_crate(here).generate().unwrap();
    let path = here.join("include/everlink.h");
    let mut header = Vec::new();
    bindings.write(&mut header);
    let header = String::from_utf8(header).unwrap();
    if std::env::var_os("EVERLINK_WRITE_HEADER").is_some() {
        std::fs::write(&path, &header).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == header, "include/everlink.h is not what src declares: run `make header`");
}
