// SPDX-License-Identifier: Apache-2.0
#include "vmm/confine/allow_list.hpp"

#include <atomic>
#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

#include "tests/catch.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/confine/passt_words.hpp"

namespace inox::confine_allow_list_test {

namespace fs = std::filesystem;
using confine::AllowList;
using confine::Purpose;

namespace {

struct Place {
    Place() {
        (void)!::mkdtemp(top.data());
        fs::create_directories(top + "/images/deep");
        fs::create_directories(top + "/images2");
        for (const char* name : {"/secret", "/named", "/images/disk", "/images/deep/disk", "/images2/disk"})
            std::ofstream{top + name} << name;
    }
    ~Place() { fs::remove_all(top); }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    std::string top{"/tmp/inox-allow-XXXXXX"};
};

int error_of(const UniqueFd& file) { return file ? 0 : errno; }
int error_of(bool done) { return done ? 0 : errno; }

std::string text_of(const UniqueFd& file) {
    std::string text(100, '\0');
    const auto got = ::pread(file.get(), text.data(), text.size(), 0);
    text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return text;
}

UniqueFd stream() { return UniqueFd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)}; }

} // namespace

TEST_CASE("a path is compared without dots, double slashes and the working directory") {
    CHECK(AllowList::normal("/a/b", "/w") == "/a/b");
    CHECK(AllowList::normal("a", "/w/x") == "/w/x/a");
    CHECK(AllowList::normal("./../a//b/.", "/w/x") == "/w/a/b");
    CHECK(AllowList::normal("../../../..", "/w/x") == "/");
    CHECK(AllowList::normal("/..//./", "/") == "/");
    CHECK(AllowList::normal("/a/b/../c/", "/") == "/a/c");
    CHECK(AllowList::normal("/a/...", "/") == "/a/...");
}

TEST_CASE("only what an entry names can be opened, and what is beneath a folder") {
    const Place place;
    AllowList list;
    CHECK(error_of(list.open(place.top + "/named", O_RDONLY, 0)) == outside::refused); // an empty list
    REQUIRE(list.add(place.top + "/named", Purpose::write));
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    const auto open = [&](const std::string& path, int flags = O_RDWR) {
        return error_of(list.open(place.top + path, flags, 0600));
    };
    CHECK(open("/named") == 0);
    CHECK(open("/images/disk") == 0);
    CHECK(open("/images/deep/disk") == 0);
    CHECK(open("/images/new", O_RDWR | O_CREAT | O_EXCL) == 0);
    CHECK(open("/images/none") == ENOENT);
    CHECK(open("/secret") == outside::refused);
    CHECK(open("/images2/disk") == outside::refused); // a name that begins alike
    CHECK(open("/named2", O_RDWR | O_CREAT) == outside::refused);
    CHECK(open("/named/below") == outside::refused); // a file holds nothing
    CHECK(open("") == outside::refused);             // the folder above
    CHECK(open("/images") == EISDIR);
    CHECK(error_of(list.open("", O_RDONLY, 0)) == outside::refused);
    CHECK(error_of(list.open(place.top + "/named" + std::string{'\0'} + "x", O_RDONLY, 0)) == outside::refused);
    CHECK(error_of(list.open("/etc/passwd", O_RDONLY, 0)) == outside::refused);
}

TEST_CASE("dots do not lead out of a folder") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    const auto open = [&](const std::string& path) { return error_of(list.open(place.top + path, O_RDONLY, 0)); };
    CHECK(open("/images/../secret") == outside::refused);
    CHECK(open("/images/deep/../../secret") == outside::refused);
    CHECK(open("/images/deep/../../images/disk") == 0);
    CHECK(open("/images/../../../../../../etc/passwd") == outside::refused);
    CHECK(open("/images/deep/../disk") == 0);
}

TEST_CASE("links beneath a folder lead to what is beneath it only") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    fs::create_symlink("../secret", place.top + "/images/up");
    fs::create_symlink(place.top + "/secret", place.top + "/images/whole");
    fs::create_symlink("..", place.top + "/images/folder");
    fs::create_symlink("deep/disk", place.top + "/images/good");
    fs::create_symlink("loop", place.top + "/images/loop");
    fs::create_symlink("/proc/self/root", place.top + "/images/magic");
    const auto open = [&](const std::string& path, int flags = O_RDONLY) {
        return error_of(list.open(place.top + path, flags, 0600));
    };
    CHECK(open("/images/up") == outside::refused);
    CHECK(open("/images/up", O_RDWR | O_CREAT) == outside::refused);
    CHECK(open("/images/whole") == outside::refused);
    CHECK(open("/images/folder/secret") == outside::refused);
    CHECK(open("/images/good") == 0);
    CHECK(open("/images/loop") == ELOOP);
    CHECK(open("/images/magic/etc/passwd") == outside::refused);
}

TEST_CASE("a link that the operator names is followed") {
    const Place place;
    fs::create_symlink("images/disk", place.top + "/current");
    fs::create_directory_symlink(place.top + "/images", place.top + "/pool");
    AllowList list;
    REQUIRE(list.add(place.top + "/current", Purpose::read));
    REQUIRE(list.add(place.top + "/pool", Purpose::read));
    CHECK(text_of(list.open(place.top + "/current", O_RDONLY, 0)) == "/images/disk");
    fs::remove(place.top + "/current");
    fs::create_symlink("images/deep/disk", place.top + "/current");
    CHECK(text_of(list.open(place.top + "/current", O_RDONLY, 0)) == "/images/deep/disk");
    CHECK(list.open(place.top + "/pool/disk", O_RDONLY, 0));
    CHECK(list.open(place.top + "/images/disk", O_RDONLY, 0)); // the same folder by its own name
    CHECK(error_of(list.open(place.top + "/secret", O_RDONLY, 0)) == outside::refused);
}

TEST_CASE("an entry for reading is for reading only") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/images", Purpose::read));
    for (const int flags : {O_WRONLY, O_RDWR, O_RDONLY | O_CREAT, O_RDONLY | O_TRUNC, O_WRONLY | O_APPEND})
        CHECK(error_of(list.open(place.top + "/images/disk", flags, 0600)) == outside::refused);
    CHECK(list.open(place.top + "/images/disk", O_RDONLY | O_NONBLOCK, 0));
    CHECK(fs::file_size(place.top + "/images/disk") != 0);
    CHECK(error_of(list.remove(place.top + "/images/disk")) == outside::refused);
    CHECK(error_of(list.bind(stream().get(), place.top + "/images/s", 0600)) == outside::refused);
    CHECK(error_of(list.open_folder(place.top + "/images", false)) == outside::refused);
    CHECK(list.open_folder(place.top + "/images/deep", true));
    // The same folder in two entries: the one that suffices counts.
    REQUIRE(list.add(place.top + "/images/deep", Purpose::write));
    CHECK(list.open(place.top + "/images/deep/disk", O_RDWR, 0));
}

TEST_CASE("flags that nobody needs are refused") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top, Purpose::write));
    for (const int flags : {O_PATH, O_ASYNC | O_RDWR, O_TMPFILE | O_RDWR})
        CHECK(error_of(list.open(place.top, flags, 0600)) == EINVAL);
}

TEST_CASE("everything may be opened where / is allowed") {
    const Place place;
    fs::create_symlink(place.top + "/secret", place.top + "/images/whole");
    AllowList list;
    REQUIRE(list.add("/", Purpose::write));
    CHECK(list.open(place.top + "/images/whole", O_RDWR, 0));
    CHECK(list.open("/proc/version", O_RDONLY, 0));
    CHECK(list.has_tap("tap9"));
    CHECK(list.open_folder("/etc", true));
}

TEST_CASE("a link that is exchanged all the time never leads out of a folder") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    std::atomic<bool> stop{false};
    std::thread swapper{[&] {
        const auto link = place.top + "/images/link";
        const auto fresh = place.top + "/images/fresh";
        for (std::size_t i = 0; !stop; ++i) {
            fs::create_symlink(i % 2 == 0 ? "disk" : "../secret", fresh);
            fs::rename(fresh, link);
        }
    }};
    std::size_t opened = 0;
    std::size_t refused = 0;
    for (int i = 0; i < 20'000 && (i < 2000 || opened == 0 || refused == 0); ++i) {
        const auto file = list.open(place.top + "/images/link", O_RDONLY, 0);
        if (file) {
            ++opened;
            CHECK(text_of(file) == "/images/disk");
        } else if (errno == outside::refused) {
            ++refused;
        }
    }
    stop = true;
    swapper.join();
    CHECK(opened != 0);
    CHECK(refused != 0);
}

TEST_CASE("a folder that is exchanged all the time never leads out of its parent") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    fs::create_directory(place.top + "/images/real");
    std::ofstream{place.top + "/images/real/secret"} << "good";
    fs::create_symlink("real", place.top + "/images/way");
    std::atomic<bool> stop{false};
    std::thread swapper{[&] {
        for (std::size_t i = 0; !stop; ++i) {
            fs::create_symlink(i % 2 == 0 ? ".." : "real", place.top + "/images/fresh");
            fs::rename(place.top + "/images/fresh", place.top + "/images/way");
        }
    }};
    for (int i = 0; i < 2000; ++i)
        if (const auto file = list.open(place.top + "/images/way/secret", O_RDONLY, 0))
            CHECK(text_of(file) == "good");
    stop = true;
    swapper.join();
}

TEST_CASE("sockets are bound and reached where the list says so") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    REQUIRE(list.add(place.top + "/vsock", Purpose::ports));
    REQUIRE(list.add(place.top + "/peer", Purpose::connect));
    const auto server = stream();
    REQUIRE(list.bind(server.get(), place.top + "/images/s", 0600));
    REQUIRE(::listen(server.get(), 8) == 0);
    struct stat status {};
    CHECK(::stat((place.top + "/images/s").c_str(), &status) == 0);
    CHECK((status.st_mode & 07777) == 0600);
    CHECK(list.connect(stream().get(), place.top + "/images/s"));
    for (const char* name : {"/vsock_1024", "/peer", "/vsock", "/vsock_x", "/vsock_", "/peer_1"})
        fs::create_symlink(place.top + "/images/s", place.top + name);
    CHECK(list.connect(stream().get(), place.top + "/vsock_1024"));
    CHECK(list.connect(stream().get(), place.top + "/peer"));
    for (const char* name : {"/vsock", "/vsock_x", "/vsock_", "/peer_1", "/vsock_1/../secret"})
        CHECK(error_of(list.connect(stream().get(), place.top + name)) == outside::refused);
    fs::create_symlink(place.top + "/images/s", place.top + "/images/way");
    CHECK(error_of(list.connect(stream().get(), place.top + "/images/way")) != 0); // a link beneath a folder
    CHECK(error_of(list.bind(stream().get(), place.top + "/s2", 0600)) == outside::refused);
    CHECK(error_of(list.open(place.top + "/peer", O_RDWR, 0)) == outside::refused); // connect is no open
    CHECK(list.remove(place.top + "/images/s"));
    CHECK_FALSE(fs::exists(place.top + "/images/s"));
    CHECK(error_of(list.remove(place.top + "/secret")) == outside::refused);
    const auto here = fs::current_path();
    (void)list.remove(place.top + "/images/none");
    CHECK(fs::current_path() == here);
}

TEST_CASE("a path may be as long as the kernel takes, and no socket's name is cut") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top, Purpose::write));
    const std::string name(200, 'n');
    CHECK(list.open(place.top + "/" + name, O_RDWR | O_CREAT, 0600));
    CHECK(error_of(list.bind(stream().get(), place.top + "/" + name, 0600)) == ENAMETOOLONG);
    CHECK(error_of(list.open(place.top + "/" + std::string(300, 'n'), O_RDONLY, 0)) == ENAMETOOLONG);
    std::string deep = place.top;
    for (int i = 0; i < 3000; ++i)
        deep += "/x";
    CHECK(error_of(list.open(deep, O_RDONLY, 0)) != 0);
}

TEST_CASE("only named outputs are replaced") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/named", Purpose::write));
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    CHECK(list.replace(place.top + "/named", "new"));
    std::string text;
    std::ifstream{place.top + "/named"} >> text;
    CHECK(text == "new");
    CHECK(error_of(list.replace(place.top + "/secret", "new")) == outside::refused);
    CHECK(error_of(list.replace(place.top + "/images/disk", "new")) == outside::refused);
}

TEST_CASE("a tap is allowed by its name, or all with their device") {
    AllowList list;
    REQUIRE(list.add("tap0", Purpose::tap));
    CHECK(list.has_tap("tap0"));
    CHECK_FALSE(list.has_tap("tap1"));
    CHECK(error_of(list.open("tap0", O_RDONLY, 0)) == outside::refused); // it is no path
    REQUIRE(list.add("/dev/net/tun", Purpose::read));
    CHECK_FALSE(list.has_tap("tap1"));
    REQUIRE(list.add("/dev/net/tun", Purpose::write));
    CHECK(list.has_tap("tap1"));
}

TEST_CASE("the list is as long as it may be") {
    AllowList list;
    std::size_t count = 0;
    while (count <= 2 * AllowList::most_entries && list.add("/nonexistent/" + std::to_string(count), Purpose::read))
        ++count;
    CHECK(count == AllowList::most_entries);
    CHECK(errno == ENOSPC);
    CHECK(list.add("/nonexistent/1", Purpose::read)); // it is there already
}

TEST_CASE("passt is started with inox's own options only") {
    using Words = std::vector<std::string>;
    const auto good = [](const Words& words) { return confine::are_passt_words(words); };
    CHECK(good({"--foreground",
                "--fd",
                "3",
                "--quiet",
                "--stderr",
                "--mtu",
                "65520",
                "--mac-addr",
                "9a:55:9a:55:9a:55",
                "--address",
                "10.0.2.15",
                "--netmask",
                "24",
                "--gateway",
                "10.0.2.2",
                "--address",
                "fd69:6e6f:7800::15",
                "--no-map-gw",
                "--dns",
                "10.1.2.3",
                "--tcp-ports",
                "127.0.0.1/8080:80",
                "--udp-ports",
                "none",
                "--runas",
                "65534:65534"}));
    CHECK(good({"--foreground", "--interface", "lo", "--ipv4-only"}));
    CHECK_FALSE(good({}));
    CHECK_FALSE(good({"--quiet"})); // it would go to the background
    for (const Words& more : std::vector<Words>{{"--pcap", "/tmp/x"},
                                                {"--log-file", "/tmp/x"},
                                                {"--pid", "/tmp/x"},
                                                {"-P", "/tmp/x"},
                                                {"--fd", "4"},
                                                {"--runas", "0"},
                                                {"--interface", "eth0"},
                                                {"--dns", "/etc/passwd"},
                                                {"--dns", ""},
                                                {"--dns"},
                                                {"--dns", "--pcap"},
                                                {"--mtu=1"},
                                                {"x"},
                                                {""}}) {
        Words words{"--foreground"};
        words.insert(words.end(), more.begin(), more.end());
        CHECK_FALSE(good(words));
    }
}

TEST_CASE("folders are made, and files renamed, beneath what may be written only") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    REQUIRE(list.add(place.top + "/images2", Purpose::read));
    CHECK(list.make_folder(place.top + "/images/new"));
    CHECK(fs::is_directory(place.top + "/images/new"));
    CHECK(error_of(list.make_folder(place.top + "/images/new")) == EEXIST);
    CHECK(error_of(list.make_folder(place.top + "/other")) == outside::refused);
    CHECK(error_of(list.make_folder(place.top + "/images2/new")) == outside::refused);
    CHECK(list.rename(place.top + "/images/disk", place.top + "/images/renamed"));
    CHECK(fs::exists(place.top + "/images/renamed"));
    CHECK_FALSE(fs::exists(place.top + "/images/disk"));
    // Neither out of a folder nor into another one
    CHECK(error_of(list.rename(place.top + "/images/renamed", place.top + "/secret")) == outside::refused);
    CHECK(error_of(list.rename(place.top + "/secret", place.top + "/images/secret")) == outside::refused);
    CHECK(error_of(list.rename(place.top + "/images/renamed", place.top + "/images/deep/x")) == outside::refused);
    CHECK(error_of(list.rename(place.top + "/images2/disk", place.top + "/images2/x")) == outside::refused);
    CHECK(error_of(list.rename(place.top + "/images/none", place.top + "/images/x")) == ENOENT);
    CHECK(fs::exists(place.top + "/images/renamed"));
}

TEST_CASE("a narrower list takes what the wider one has, and acts by its rules") {
    const Place place;
    AllowList list;
    REQUIRE(list.add(place.top + "/images", Purpose::write));
    REQUIRE(list.add(place.top + "/named", Purpose::read));
    REQUIRE(list.add("tap0", Purpose::tap));
    AllowList narrow = list;
    narrow.narrow();
    CHECK(error_of(narrow.open(place.top + "/images/disk", O_RDONLY, 0)) == outside::refused);
    REQUIRE(narrow.add(place.top + "/images/deep", Purpose::read));
    REQUIRE(narrow.add(place.top + "/named", Purpose::read));
    REQUIRE(narrow.add(place.top + "/images/port", Purpose::ports));
    REQUIRE(narrow.add("tap0", Purpose::tap));
    for (const auto& [path, purpose] :
         {std::pair{"/secret", Purpose::read}, std::pair{"/named", Purpose::write},
          std::pair{"/images2/disk", Purpose::read}, std::pair{"/port", Purpose::ports}, std::pair{"", Purpose::read}})
        CHECK((!narrow.add(place.top + path, purpose) && errno == outside::refused));
    CHECK((!narrow.add("tap1", Purpose::tap) && errno == outside::refused));
    CHECK(error_of(narrow.open(place.top + "/images/deep/disk", O_RDONLY, 0)) == 0);
    CHECK(error_of(narrow.open(place.top + "/images/deep/disk", O_RDWR, 0)) == outside::refused);
    CHECK(error_of(narrow.open(place.top + "/images/disk", O_RDONLY, 0)) == outside::refused);
    CHECK(error_of(narrow.open(place.top + "/named", O_RDONLY, 0)) == 0);
    CHECK(narrow.has_tap("tap0"));
    CHECK_FALSE(narrow.has_tap("tap1"));
    CHECK(error_of(list.open(place.top + "/images/disk", O_RDONLY, 0)) == 0);
}

} // namespace inox::confine_allow_list_test
