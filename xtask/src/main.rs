//! Developer tasks: `cargo xtask help` lists them.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("no task yet")
}
