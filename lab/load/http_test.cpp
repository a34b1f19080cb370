#include "load/http.h"

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <thread>

namespace keelback::load {
namespace {

class Listener {
 public:
  Listener() {
    ::unlink(path_.c_str());
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof(address.sun_path) - 1);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(socket_.get(), 1), 0);
  }
  ~Listener() { ::unlink(path_.c_str()); }
  const std::string& path() const { return path_; }
  os::Fd accept() { return os::Fd(::accept(socket_.get(), nullptr, nullptr)); }

 private:
  const std::string path_ = testing::TempDir() + "http-" + std::to_string(::getpid());
  const os::Fd socket_{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
};

void send_all(const os::Fd& socket, std::string_view bytes) {
  EXPECT_EQ(::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(bytes.size()));
}

void wait_until_read(const os::Fd& socket) {
  for (int unread = 1; unread > 0;) {
    ASSERT_EQ(::ioctl(socket.get(), SIOCOUTQ, &unread), 0);
    std::this_thread::yield();
  }
}

// Goal: replies whose bodies come in chunks or with a length are read one after another, wherever
// the bytes are cut in two on their way.
TEST(Http, RepliesAreReadWhereverTheyAreCut) {
  const std::string chunked =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n[1,\r\na\r\n23456789]\n\r\n"
      "0\r\n\r\n";
  const std::string plain = "HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n[\"2\"]";
  Listener listener;
  for (std::size_t cut = 1; cut < chunked.size(); ++cut) {
    auto connection = HttpConnection::open(listener.path());
    ASSERT_TRUE(connection) << connection.error();
    const os::Fd server = listener.accept();
    std::jthread sender([&] {
      send_all(server, chunked.substr(0, cut));
      wait_until_read(server);
      send_all(server, chunked.substr(cut));
    });
    const HttpConnection::Reply first = connection->receive();
    EXPECT_EQ(first.status, 200);
    EXPECT_EQ(first.body, "[1,23456789]\n") << cut;
    send_all(server, plain);
    const HttpConnection::Reply second = connection->receive();
    EXPECT_EQ(second.status, 404);
    EXPECT_EQ(second.body, "[\"2\"]") << cut;
  }
}

}  // namespace
}  // namespace keelback::load
