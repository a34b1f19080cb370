// Runs a fuzz target over the files of its corpus, each whole and cut at a few places.
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

int main(int argc, char** argv) {
  int files = 0;
  for (int i = 1; i < argc; ++i) {
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) {
      std::ifstream in(entry.path(), std::ios::binary);
      const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
      const auto* bytes = reinterpret_cast<const std::uint8_t*>(text.data());
      for (std::size_t size : {text.size(), text.size() / 2, text.size() / 3}) {
        LLVMFuzzerTestOneInput(bytes, size);
      }
      ++files;
    }
  }
  std::printf("%d files\n", files);
  return files == 0 ? 1 : 0;  // an empty corpus proves nothing
}
