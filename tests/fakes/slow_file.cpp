// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/slow_file.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

namespace inox::fakes {

std::string SlowFile::with(std::uint64_t size, const std::function<void(SlowFile&)>& body) {
    std::string reason;
    std::thread{[&] {
        if (::unshare(CLONE_NEWNS) != 0 || ::mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
            reason = std::string{"no mount namespace: "} + std::strerror(errno);
        else if (UniqueFd fuse{::open("/dev/fuse", O_RDWR | O_CLOEXEC)}; !fuse)
            reason = std::string{"/dev/fuse: "} + std::strerror(errno);
        else if (SlowFile file{size, std::move(fuse)}; file.mounted_)
            body(file);
        else
            reason = std::string{"cannot mount FUSE: "} + std::strerror(errno);
    }}.join();
    return reason;
}

SlowFile::~SlowFile() {
    ::umount2(folder_.c_str(), MNT_DETACH);
    slow_ = false;
    server_.join(); // the last file is closed, so the kernel ends the connection
    ::rmdir(folder_.c_str());
}

SlowFile::SlowFile(std::uint64_t size, UniqueFd fuse) : size_{size}, fuse_{std::move(fuse)} {
    mounted_ = ::mkdtemp(folder_.data()) != nullptr &&
               ::mount("slow", folder_.c_str(), "fuse", MS_NOSUID | MS_NODEV,
                       ("rootmode=40000,user_id=0,group_id=0,fd=" + std::to_string(fuse_.get())).c_str()) == 0;
    server_ = std::thread{[this] { serve(); }};
}

fuse_attr SlowFile::attributes(std::uint64_t node) const {
    fuse_attr out{};
    out.ino = node;
    out.mode = node == FUSE_ROOT_ID ? S_IFDIR | 0755 : S_IFREG | 0644;
    out.size = node == FUSE_ROOT_ID ? 0 : size_;
    out.nlink = 1;
    return out;
}

void SlowFile::refuse(std::uint64_t unique, int error) {
    const fuse_out_header head{sizeof head, -error, unique};
    (void)!::write(fuse_.get(), &head, sizeof head);
}

void SlowFile::serve() {
    std::vector<std::byte> in(1 << 20);
    for (;;) {
        const auto got = ::read(fuse_.get(), in.data(), in.size());
        if (got < 0 && (errno == EINTR || errno == ENOENT || errno == EAGAIN))
            continue;
        if (got < static_cast<ssize_t>(sizeof(fuse_in_header)))
            return; // unmounted
        handle(in);
    }
}

void SlowFile::handle(std::span<const std::byte> in) {
    fuse_in_header head{};
    std::memcpy(&head, in.data(), sizeof head);
    if (slow_ && head.opcode != FUSE_RELEASE)
        std::this_thread::sleep_for(delay);
    switch (head.opcode) {
    case FUSE_INIT: {
        fuse_init_out out{};
        out.major = FUSE_KERNEL_VERSION;
        out.minor = 31;
        out.max_write = 4096;
        return answer(head.unique, out);
    }
    case FUSE_LOOKUP: {
        fuse_entry_out out{};
        out.nodeid = 2;
        out.attr = attributes(2);
        return answer(head.unique, out);
    }
    case FUSE_GETATTR: {
        if (slow_)
            ++asked_;
        fuse_attr_out out{};
        out.attr = attributes(head.nodeid);
        return answer(head.unique, out);
    }
    case FUSE_OPEN:
        return answer(head.unique, fuse_open_out{});
    case FUSE_READ: {
        fuse_read_in ask{};
        std::memcpy(&ask, in.data() + sizeof head, sizeof ask);
        return answer(head.unique, std::array<std::byte, 4096>{}, std::min<std::size_t>(ask.size, 4096));
    }
    case FUSE_WRITE: {
        fuse_write_in ask{};
        std::memcpy(&ask, in.data() + sizeof head, sizeof ask);
        return answer(head.unique, fuse_write_out{ask.size, 0});
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
        return; // not answered
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_FSYNC:
        return refuse(head.unique, 0);
    default:
        return refuse(head.unique, ENOSYS);
    }
}

} // namespace inox::fakes
