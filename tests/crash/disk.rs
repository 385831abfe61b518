//! A file system on an image file, and cutting its power.
//!
//! Two ways to cut:
//!
//! - **ioctl**: the file system's own shutdown call without flushing its log. From that moment it
//!   takes and writes nothing more; what it had not written yet is gone. ext4 and xfs have it; btrfs
//!   only in newer kernels. No `unsafe` is allowed in this crate, so fifteen lines of C make the
//!   call: a C compiler is needed to build thorp anyway, where python or xfs_io need not be there.
//! - **clone**: the image lies on a file system that can clone files, and is cloned while in use. A
//!   clone is atomic with respect to writes (ioctl_ficlonerange(2)), so it is what the disk would
//!   have held had the power gone at that moment.
//!
//! Only what was acknowledged before the cut began must be there: nobody hears an answer from a machine
//! without power. With the ioctl that matters: a sync that is under way while it works may report
//! success and have written nothing (seen on ext4 and xfs with a program of thirty lines that does
//! nothing but write and sync; never for a sync that ended before).
//!
//! Neither loses what the file system wrote and did not flush: the loop device's own cache survives.
//! So a missing sync of a file or folder is seen, a missing flush of the disk's cache is not.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Large enough for the log of every kind, and sparse.
const IMAGE_BYTES: u64 = 512 << 20;
/// What images that are to be cloned lie on.
const LOWER_BYTES: u64 = 2 << 30;

const CUT_C: &str = r#"#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int count, char **words)
{
    uint32_t without_log_flush = 2;
    int folder = count == 2 ? open(words[1], O_RDONLY | O_DIRECTORY) : -1;
    if (folder < 0 || ioctl(folder, _IOR('X', 125, uint32_t), &without_log_flush) != 0) {
        perror("shutdown");
        return 1;
    }
    return 0;
}
"#;

/// A kind of file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ext4.
    Ext4,
    /// xfs.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Ext4 => "ext4",
            Kind::Xfs => "xfs",
            Kind::Btrfs => "btrfs",
        })
    }
}

impl Kind {
    /// Whether such a file system can be made here.
    pub fn has_tools(self) -> bool {
        let mut mkfs = Command::new(format!("mkfs.{self}"));
        mkfs.arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    }

    fn make(self, image: &Path, bytes: u64) {
        let file = fs::File::create(image).expect("an image");
        file.set_len(bytes).expect("a sparse image");
        let quiet: &[&str] = if self == Kind::Ext4 { &["-q", "-F"] } else { &["-q", "-f"] };
        run(Command::new(format!("mkfs.{self}")).args(quiet).arg(image));
    }
}

/// A file system that loses power again and again.
pub struct Disk {
    kind: Kind,
    folder: PathBuf,
    cutter: PathBuf,
    /// The file system on which the image is cloned, if it is.
    lower: Option<PathBuf>,
    image: PathBuf,
    next: u64,
}

impl Disk {
    /// A new disk in `folder`, mounted.
    pub fn new(kind: Kind, folder: &Path) -> Disk {
        let cutter = folder.join("cut");
        if !cutter.exists() {
            let source = folder.join("cut.c");
            fs::write(&source, CUT_C).expect("a C file");
            run(Command::new("cc").arg("-o").arg(&cutter).arg(&source));
        }
        let mut disk =
            Disk { kind, folder: folder.to_owned(), cutter, lower: None, image: PathBuf::new(), next: 0 };
        fs::create_dir_all(disk.mount_point()).expect("a mount point");
        disk.fresh();
        if disk.shut_down().is_err() {
            disk.unmount();
            disk.make_lower();
        }
        disk.fresh();
        disk
    }

    /// Where it is mounted.
    pub fn mount_point(&self) -> PathBuf {
        self.folder.join("mnt")
    }

    /// How its power is cut.
    pub fn way(&self) -> &'static str {
        if self.lower.is_some() { "clone" } else { "ioctl" }
    }

    /// A new and empty image instead of the old one, mounted.
    pub fn fresh(&mut self) {
        if self.image.exists() {
            self.unmount();
            fs::remove_file(&self.image).expect("the old image");
        }
        self.image = self.next_image();
        self.kind.make(&self.image, IMAGE_BYTES);
        self.mount();
    }

    /// Cuts the power. What runs on the disk is still to be killed; then comes [`Disk::restore`].
    pub fn cut(&mut self) {
        if self.lower.is_none() {
            self.shut_down().unwrap_or_else(|why| panic!("{why}"));
            return;
        }
        let clone = self.next_image();
        run(Command::new("cp").arg("--reflink=always").arg(&self.image).arg(&clone));
    }

    /// Mounts what is left after a cut.
    pub fn restore(&mut self) {
        self.unmount();
        if self.lower.is_some() {
            fs::remove_file(&self.image).expect("the old image");
            self.image = self.image_path(self.next);
        } else {
            // Under its old name `mount` might take up a loop device that is about to go.
            let next = self.next_image();
            fs::rename(&self.image, &next).expect("another name for the image");
            self.image = next;
        }
        self.mount();
    }

    fn image_path(&self, number: u64) -> PathBuf {
        self.lower.as_ref().unwrap_or(&self.folder).join(format!("image-{number}"))
    }

    fn next_image(&mut self) -> PathBuf {
        self.next += 1;
        self.image_path(self.next)
    }

    fn make_lower(&mut self) {
        let (image, point) = (self.folder.join("lower.img"), self.folder.join("lower"));
        fs::create_dir_all(&point).expect("a mount point");
        fs::remove_file(&self.image).expect("the first image");
        Kind::Btrfs.make(&image, LOWER_BYTES);
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point));
        self.lower = Some(point);
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(self.mount_point()));
    }

    /// Takes the file system off; the loop device goes with it.
    fn unmount(&self) {
        let gone = |command: &mut Command| match command.output() {
            Ok(output) if output.status.success() && output.stdout.is_empty() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        };
        // A killed process may hold it for another moment.
        super::node::wait_until("the file system is unmounted", || {
            gone(Command::new("umount").arg(self.mount_point()))
        });
        super::node::wait_until("the loop device is free", || {
            gone(Command::new("losetup").arg("-j").arg(&self.image))
        });
    }

    fn shut_down(&self) -> Result<(), String> {
        let output = Command::new(&self.cutter).arg(self.mount_point()).output();
        let output = output.map_err(|error| error.to_string())?;
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        for point in [self.mount_point(), self.folder.join("lower")] {
            // Whatever stays goes with the mount namespace.
            drop(Command::new("umount").arg("-l").arg(point).stderr(Stdio::null()).status());
        }
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {words}");
}
