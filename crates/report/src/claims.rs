//! What a certificate says and what it does not, as sentences.

use crate::report::Report;
use crate::text;

impl Report<'_> {
    /// What was looked at, in one or two sentences.
    pub fn basis(&self) -> String {
        let certificate = &self.certificate;
        let looked = text::count(certificate.looked, "path", "paths");
        let mut text = format!(
            "At {} the first bytes were read of what is at {looked}: all at which scans, the plan \
             or runs of migrations know a version 1 image, now or before, and where runs keep \
             originals.",
            text::moment(self.made)
        );
        if certificate.in_use > 0 {
            let count = text::count(certificate.in_use, "of them is", "of them are");
            text.push_str(&format!(
                " {count} in use by other processes and no version 1 image: these were read all \
                 the same."
            ));
        }
        if certificate.removed > 0 {
            let images = text::count(certificate.removed, "version 1 image", "version 1 images");
            text.push_str(&format!(
                " {images} that scans knew are gone, and were removed on purpose, as somebody said \
                 who scanned: nobody can look at these."
            ));
        }
        text
    }

    /// What the certificate says; or why there is none.
    pub fn verdict(&self) -> String {
        let certificate = &self.certificate;
        if certificate.is_given() {
            return "No version 1 image remains.".into();
        }
        let known = certificate.count_version1();
        let count = certificate.count() - known;
        let images = text::count(known, "version 1 image remains", "version 1 images remain");
        let places = text::count(count, "place", "places");
        match (known, count) {
            (_, 0) => format!("{images}."),
            (0, _) => format!("It cannot be said of {places} that no version 1 image is there."),
            _ => format!("{images}, and of {places} it cannot be said that there is none."),
        }
    }

    /// What nobody should read out of the certificate.
    pub fn limits(&self) -> Vec<String> {
        let mut all = vec![
            "It speaks of the folders that were scanned, as they were when each scan ended. What \
             was made, copied, unpacked or mounted there since is not known: scan and report \
             again to include it."
                .to_owned(),
            "It does not speak of other folders and machines, of backups, of snapshots that file \
             systems keep, or of images inside of other disks."
                .to_owned(),
            "What a file is was told by its first bytes. It does not say that what is in it is \
             whole: that is what results and digests of single images are for."
                .to_owned(),
        ];
        all.push(
            "It does not say that nothing makes new ones: calve audit-sources looks for scripts and \
             settings that do."
                .into(),
        );
        let scans = self.certificate.rests_on.iter().map(|it| &it.scan);
        if scans.clone().any(|scan| !scan.with_archives) {
            all.push("Archives were not looked into by every scan.".into());
        }
        if scans.clone().any(|scan| scan.is_one_file_system) {
            all.push("Other file systems that are mounted below the folders were left out.".into());
        }
        if self.originals.undo > 0 {
            let count = text::count(self.originals.undo, "image", "images");
            all.push(format!(
                "{count} can be made version 1 again, as long as the record of what it was lies \
                 beside: giving the run's way back up ends that."
            ));
        }
        all
    }
}
