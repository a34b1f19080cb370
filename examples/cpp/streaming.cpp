// A Python generator, item by item: pulled at our pace, or pushed into a callback. Either way the
// worker waits when its items are not taken.
//   streaming [APP]
#include <keelback/keelback.h>
#include <future>
#include <iostream>

int main(int argc, char** argv) {
  auto pool = keelback::Pool::start(keelback::Config(argc > 1 ? argv[1] : "app.py"));
  if (!pool) {
    std::cerr << pool.error().message << '\n';
    return 1;
  }
  keelback::Call call;
  call.function = "countdown";
  call.payload = "[5]";

  keelback::Stream stream = pool->stream(call);
  while (auto item = stream.next()) std::cout << *item << ' ';
  std::cout << '\n';
  if (!stream.result()) {
    std::cerr << stream.result().error().describe() << '\n';
    return 1;
  }

  call.payload = "[100]";
  int sum = 0;
  std::promise<bool> over;
  pool->stream(
      call, [&](std::string item) { sum += std::stoi(item); },
      [&](keelback::Result result) { over.set_value(result.has_value()); });
  if (!over.get_future().get()) return 1;
  std::cout << "sum " << sum << '\n';
}
