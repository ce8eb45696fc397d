// SPDX-License-Identifier: Apache-2.0
#include "vmm/test/guest_stream.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "vmm/base/bytes.hpp"

namespace inox::test {
namespace {

constexpr int most_pieces = 256; // in one turn, of a guest that writes as fast as we read

} // namespace

void GuestStream::read() {
    for (int pieces = 0; pieces < most_pieces && read_piece(); ++pieces) {
    }
}

bool GuestStream::read_piece() {
    if (!file_)
        file_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC)); // NOLINT(*-vararg)
    if (!file_)
        return false;
    std::array<char, 64 * 1024> buffer;
    const auto size = ::read(file_.get(), buffer.data(), buffer.size());
    if (size <= 0)
        return false;
    std::string_view text{buffer.data(), static_cast<std::size_t>(size)};
    read_ += size;
    lines_ += static_cast<std::uint64_t>(std::ranges::count(text, '\n'));
    give_back();
    while (!text.empty()) {
        const auto end = std::min(text.find('\n'), text.size() - 1) + 1;
        rest_ += text.substr(0, end);
        text.remove_prefix(end);
        if (rest_.ends_with("\r\n"))
            rest_.erase(rest_.size() - 2, 1);
        if (rest_.ends_with('\n') || rest_.size() >= longest_line) {
            line_(rest_);
            rest_.clear();
        }
    }
    return true;
}

void GuestStream::finish() {
    while (read_piece()) {
    }
    if (!rest_.empty())
        line_(rest_);
    rest_.clear();
    if (file_ && gap_until_ != 0)
        close_gap();
    file_.reset();
}

/// Whole steps of kept_, so that it is not done for each piece that is read.
void GuestStream::give_back() {
    const auto until = read_ - kept_;
    const auto from = std::max(gap_until_, kept_);
    if (until - from >= kept_ &&
        ::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, until - from) == 0)
        gap_until_ = until;
}

/// Moves the end of the file behind its start, both cut to whole lines.
void GuestStream::close_gap() {
    std::array<char, 64 * 1024> buffer;
    const auto read_at = [&](off_t at, off_t most) {
        const auto size =
            ::pread(file_.get(), buffer.data(), static_cast<std::size_t>(std::min<off_t>(most, buffer.size())), at);
        return std::string_view{buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
    };
    auto to = std::max<off_t>(kept_ - static_cast<off_t>(buffer.size()), 0);
    const auto before = read_at(to, kept_ - to);
    to += static_cast<off_t>(before.rfind('\n') == before.npos ? before.size() : before.rfind('\n') + 1);
    auto from = gap_until_;
    const auto behind = read_at(from, static_cast<off_t>(buffer.size()));
    from += static_cast<off_t>(behind.find('\n') == behind.npos ? 0 : behind.find('\n') + 1);

    std::uint64_t lines = 0;
    for (off_t at = 0; at < to;) {
        const auto text = read_at(at, to - at);
        if (text.empty())
            break;
        lines += static_cast<std::uint64_t>(std::ranges::count(text, '\n'));
        at += static_cast<off_t>(text.size());
    }
    lost_bytes_ = static_cast<std::uint64_t>(from - to);
    // What is said of it stands before the rest, which shall not be overwritten before it was read.
    const auto note = [&](std::uint64_t lost) {
        return format("[inox test: %20llu lines are left out here]\n", static_cast<unsigned long long>(lost));
    };
    const auto place = to;
    to += static_cast<off_t>(note(0).size());
    for (auto at = from; at < read_;) {
        const auto text = read_at(at, read_ - at);
        if (text.empty())
            break;
        lines += static_cast<std::uint64_t>(std::ranges::count(text, '\n'));
        const auto written = ::pwrite(file_.get(), text.data(), text.size(), to);
        if (written <= 0)
            break;
        to += written;
        at += written;
    }
    lost_lines_ = lines_ - std::min(lines_, lines);
    const auto said = note(lost_lines_);
    (void)!::pwrite(file_.get(), said.data(), said.size(), place);
    (void)!::ftruncate(file_.get(), to);
}

std::string GuestStream::left_out() const {
    if (gap_until_ == 0)
        return {};
    return format("%llu lines in the middle (%llu MiB) are left out", static_cast<unsigned long long>(lost_lines_),
                  static_cast<unsigned long long>(lost_bytes_ / MiB));
}

std::string last_lines(const std::string& path, std::size_t count) {
    static constexpr off_t most = 8 * 1024;
    const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!file)
        return {};
    std::string text(static_cast<std::size_t>(most), '\0');
    const auto size = ::lseek(file.get(), 0, SEEK_END);
    const auto got = ::pread(file.get(), text.data(), text.size(), std::max<off_t>(size - most, 0));
    text.resize(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    std::erase(text, '\r');
    while (text.ends_with('\n'))
        text.pop_back();
    if (text.empty())
        return {};
    auto from = text.size();
    for (std::size_t i = 0; i < count && from != text.npos && from != 0; ++i)
        from = text.rfind('\n', from - 1);
    return (from == text.npos || from == 0 ? text : text.substr(from + 1)) + "\n";
}

std::optional<std::string> read_start(const std::string& path, std::size_t most) {
    const UniqueFd file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)}; // NOLINT(*-vararg)
    if (!file)
        return std::nullopt;
    std::string text;
    std::array<char, 64 * 1024> buffer;
    while (text.size() < most) {
        const auto size = ::read(file.get(), buffer.data(), std::min(buffer.size(), most - text.size()));
        if (size <= 0)
            break;
        text.append(buffer.data(), static_cast<std::size_t>(size));
    }
    return text;
}

} // namespace inox::test
