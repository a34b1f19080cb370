// Bytes and arrays beside the JSON, in both directions. From 64 KiB on they travel through shared
// memory; nothing here has to know.
//   attachments [APP]
#include <keelback/keelback.h>
#include <cstring>
#include <iostream>
#include <numeric>
#include <vector>

int main(int argc, char** argv) {
  auto pool = keelback::Pool::start(keelback::Config(argc > 1 ? argv[1] : "app.py"));
  if (!pool) {
    std::cerr << pool.error().message << '\n';
    return 1;
  }

  // Plain bytes: the string is moved, not copied.
  keelback::Call call;
  call.function = "reverse";
  call.payload = "{}";
  call.attachments.push_back(
      {.name = "data", .data = std::string("stressed"), .dtype = {}, .shape = {}});
  const keelback::Result text = pool->call(call);
  if (!text) {
    std::cerr << text.error().describe() << '\n';
    return 1;
  }
  std::cout << text->payload << ' ' << text->attachments.at(0).data.view() << '\n';

  // An array with its type and shape. The vector stays ours; it outlives the call.
  std::vector<float> grid(512 * 512);
  std::iota(grid.begin(), grid.end(), 0.0F);
  call.function = "halve";
  call.attachments = {{.name = "grid",
                       .data = keelback::Buffer(std::as_bytes(std::span(grid)), nullptr),
                       .dtype = "float32",
                       .shape = {512, 512}}};
  const keelback::Result halves = pool->call(call);
  if (!halves) {
    std::cerr << halves.error().describe() << '\n';
    return 1;
  }
  const keelback::Attachment& answer = halves->attachments.at(0);
  float last = 0;
  std::memcpy(&last, answer.data.data() + answer.data.size() - sizeof(last), sizeof(last));
  std::cout << answer.dtype << ' ' << answer.data.size() << " bytes, the last is " << last << '\n';
}
