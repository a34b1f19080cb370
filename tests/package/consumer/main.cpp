#include <keelback/keelback.h>
#include <iostream>

int main(int argc, char** argv) {
  keelback::Config config(argc > 1 ? argv[1] : "app.py");
  if (argc > 2 && !config.set("pool.backend", argv[2])) return 2;
  auto pool = keelback::Pool::start(std::move(config));
  if (!pool) {
    std::cerr << pool.error().message << '\n';
    return 1;
  }
  const auto result = pool->call("echo", R"(["installed"])");
  if (!result) {
    std::cerr << result.error().describe() << '\n';
    return 1;
  }
  std::cout << result->payload << '\n';
}
