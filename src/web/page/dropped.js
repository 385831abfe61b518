// The files of a drop, those inside of folders too, with their names from the folder on.

/** Must be called inside of the event: afterwards the browser has forgotten what was dropped. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].filter((item) => item.kind === "file").map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) await collect(entry, "", found);
  return found;
}

async function collect(entry, folder, found) {
  if (!entry) return;
  if (entry instanceof File) found.push({ file: entry, name: folder + entry.name });
  else if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file) found.push({ file, name: folder + entry.name });
  } else {
    const reader = entry.createReader();
    for (;;) {
      // A reader gives some at a time, and none at the end.
      const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
      if (some.length === 0) break;
      for (const one of some) await collect(one, `${folder}${entry.name}/`, found);
    }
  }
}
