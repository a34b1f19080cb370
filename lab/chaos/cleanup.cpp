#include "chaos/cleanup.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <filesystem>

#include "chaos/lab.h"
#include "chaos/undo.h"
#include "os/fd.h"

namespace keelback::chaos {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> scratch_directories() {
  std::vector<std::string> out;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(fs::temp_directory_path(error), error)) {
    if (entry.path().filename().string().starts_with(kScratchPrefix)) {
      out.push_back(entry.path().string());
    }
  }
  std::ranges::sort(out);
  return out;
}

}  // namespace

std::vector<Cleaned> clean_up(const std::vector<std::string>& directories) {
  std::vector<Cleaned> out;
  for (const std::string& directory : directories.empty() ? scratch_directories() : directories) {
    const std::string path = directory + "/" + kJournalName;
    const os::Fd journal(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!journal) continue;
    Cleaned cleaned{.journal = path};
    // A warden holds the lock as long as it lives.
    cleaned.busy = ::flock(journal.get(), LOCK_EX | LOCK_NB) != 0;
    if (!cleaned.busy) cleaned.text = undo_journal(path);
    out.push_back(std::move(cleaned));
  }
  return out;
}

}  // namespace keelback::chaos
