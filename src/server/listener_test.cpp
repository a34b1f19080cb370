#include "server/listener.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "server/systemd.h"

namespace keelback::server {
namespace {

using ::testing::HasSubstr;

class ListenerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::temp_directory_path() / "kb_listener_XXXXXX";
    directory_ = ::mkdtemp(pattern.data());
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string path() const { return directory_ + "/s.sock"; }
  std::string spec() const { return "unix:" + path(); }
  std::string directory_;
};

// Goal: ":0" says which port it got, and the kind of address is known.
TEST_F(ListenerTest, TcpReportsWhatItBound) {
  const auto v4 = Listener::open("127.0.0.1:0");
  ASSERT_TRUE(v4) << v4.error();
  EXPECT_GT(v4->endpoint().port, 0);
  EXPECT_EQ(v4->endpoint().text, "127.0.0.1:" + std::to_string(v4->endpoint().port));
  EXPECT_TRUE(v4->door().loopback);
  const auto name = Listener::open("localhost:0");
  ASSERT_TRUE(name) << name.error();
  EXPECT_TRUE(name->door().loopback);
  const auto all = Listener::open("0.0.0.0:0");
  ASSERT_TRUE(all) << all.error();
  EXPECT_FALSE(all->door().loopback);
  if (const auto v6 = Listener::open("[::1]:0")) {  // where there is IPv6
    EXPECT_TRUE(v6->door().loopback);
    EXPECT_EQ(v6->endpoint().text, "[::1]:" + std::to_string(v6->endpoint().port));
  }
  const auto taken = Listener::open(v4->endpoint().text);
  ASSERT_FALSE(taken);
  EXPECT_THAT(taken.error(), HasSubstr(v4->endpoint().text));
  for (const char* bad : {"", "8080", "localhost", ":80", "::1:80", "localhost:65536",
                          "localhost:-1", "localhost:http", "unix:", "[::1]"}) {
    const auto listener = Listener::open(bad);
    ASSERT_FALSE(listener) << bad;
    EXPECT_THAT(listener.error(), HasSubstr("server.listen"));
  }
  EXPECT_FALSE(Listener::open("unix:/" + std::string(200, 'x')));
}

// Goal: the socket file is for its owner only, goes with its listener, and a file that has taken
// its place meanwhile stays.
TEST_F(ListenerTest, UnixSocketIsPrivateAndIsRemoved) {
  {
    const auto listener = Listener::open(spec());
    ASSERT_TRUE(listener) << listener.error();
    struct stat status{};
    ASSERT_EQ(::stat(path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, 0600U);
    EXPECT_TRUE(listener->door().trusted);
  }
  EXPECT_FALSE(std::filesystem::exists(path()));
  {
    const auto listener = Listener::open(spec());
    ASSERT_TRUE(listener);
    std::filesystem::remove(path());
    std::ofstream(path()) << "another's";
  }
  EXPECT_TRUE(std::filesystem::exists(path()));
}

// Goal: the socket has the permissions that were asked for, whatever the umask takes away.
TEST_F(ListenerTest, UnixSocketHasItsModeUnderEveryUmask) {
  for (const mode_t umask : {0000U, 0022U, 0077U, 0777U}) {
    for (const mode_t mode : {0600U, 0660U, 0666U}) {
      const mode_t before = ::umask(umask);
      const auto listener = Listener::open(spec(), mode);
      ::umask(before);
      ASSERT_TRUE(listener) << listener.error();
      struct stat status{};
      ASSERT_EQ(::stat(path().c_str(), &status), 0);
      EXPECT_EQ(status.st_mode & 07777, mode) << "umask " << umask;
    }
  }
}

// Goal: only a socket that nobody listens on is taken over.
TEST_F(ListenerTest, TakesOverOnlyWhatIsStale) {
  std::ofstream(path()) << "a file";
  const auto file = Listener::open(spec());
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error(), HasSubstr("not a socket"));
  std::filesystem::remove(path());

  const auto living = Listener::open(spec());
  ASSERT_TRUE(living);
  const auto second = Listener::open(spec());
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error(), HasSubstr("another process listens"));
  EXPECT_TRUE(std::filesystem::exists(path())) << "the loser removes nothing";

  const std::string stale = directory_ + "/stale.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, stale.c_str());
  const int dead = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(::bind(dead, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::close(dead);  // as a killed process leaves it
  const auto taken = Listener::open("unix:" + stale);
  EXPECT_TRUE(taken) << taken.error();
}

// Goal: an inherited descriptor is checked before it is believed.
TEST_F(ListenerTest, AdoptsOnlyListeningSockets) {
  int fds[2];
  ASSERT_EQ(::pipe(fds), 0);
  EXPECT_FALSE(Listener::adopt(fds[0]));
  ::close(fds[0]);
  ::close(fds[1]);
  const auto own = Listener::open(spec());
  ASSERT_TRUE(own);
  {
    const auto adopted = Listener::adopt(::dup(own->fd()));
    ASSERT_TRUE(adopted) << adopted.error();
    EXPECT_FALSE(adopted->door().trusted);
    EXPECT_EQ(adopted->endpoint().path, path());
  }
  EXPECT_TRUE(std::filesystem::exists(path())) << "the service manager's file is not ours";
}

// Goal: LISTEN_FDS is obeyed only if it is meant for this process, and no child sees it.
TEST(Systemd, ListenersAreOursOnlyIfThePidIs) {
  ::setenv("LISTEN_FDS", "2", 1);
  ::setenv("LISTEN_PID", "1", 1);
  EXPECT_TRUE(inherited_listeners().empty());
  EXPECT_EQ(::getenv("LISTEN_FDS"), nullptr);
  ::setenv("LISTEN_FDS", "2", 1);
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  EXPECT_EQ(inherited_listeners(), (std::vector<int>{3, 4}));
  EXPECT_TRUE(inherited_listeners().empty());
}

TEST_F(ListenerTest, NotifiesTheServiceManager) {
  const std::string where = directory_ + "/notify";
  const int fd = ::socket(AF_UNIX, SOCK_DGRAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, where.c_str());
  ASSERT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ::setenv("NOTIFY_SOCKET", where.c_str(), 1);
  EXPECT_TRUE(notify("READY=1"));
  char text[32] = {};
  EXPECT_EQ(::recv(fd, text, sizeof text, MSG_DONTWAIT), 7);
  EXPECT_STREQ(text, "READY=1");
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_FALSE(notify("READY=1"));
  ::close(fd);
}

}  // namespace
}  // namespace keelback::server
