// SPDX-License-Identifier: Apache-2.0
// Serves a folder to a guest: FUSE messages come and go by a stream socket, each as long as its first number says.
// Nothing of the guest's memory is here.
//
// libfuse decodes and encodes messages (its low-level interface, with our own input and output). Three kinds of request
// it does not get: DESTROY and INTERRUPT, because it would keep every interrupt that fits no request; and SETXATTR,
// whose name libfuse 3.14.0 looks for 8 bytes too late.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "vmm/share/folder.hpp"
#include "vmm/share/message.hpp"

struct fuse_session;
struct fuse_in_header;
struct iovec;

namespace inox::share {

/// One thread. Whatever comes by the socket costs at most this server.
class Server {
public:
    /// `socket`: a stream socket, blocking; its other end is inox.
    Server(UniqueFd socket, Folder folder);
    ~Server();
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    /// Serves until the socket's other end closes, or breaks the framing: false then.
    bool run();

    // For the operations.
    [[nodiscard]] Folder& folder() noexcept { return folder_; }
    /// Of the request that is served now.
    [[nodiscard]] std::uint64_t unique() const noexcept { return unique_; }
    /// For the data of a reply: max_data bytes.
    [[nodiscard]] std::span<std::byte> room() noexcept { return {output_.get(), max_data}; }

private:
    enum class Received : bool { message, end };
    Received receive();
    void serve(std::span<std::byte> message);
    void pass_on(std::span<std::byte> message);
    void start_session();
    void end_session();
    int set_attribute(const fuse_in_header& header, std::span<const std::byte> arguments);
    void reply(std::uint64_t unique, int error);
    void send(std::span<iovec> pieces);

    [[nodiscard]] std::span<std::byte> input() noexcept { return {input_.get(), max_message}; }
    static ssize_t write_reply(int fd, iovec* pieces, int count, void* server);

    const UniqueFd socket_;
    Folder folder_;
    fuse_session* session_{};
    bool muted_{false};  ///< replies of an ended session go nowhere
    bool broken_{false}; ///< nobody takes replies any more
    std::uint64_t unique_{};
    std::size_t filled_{0};
    std::size_t length_{0}; ///< of the message at the front of the input; 0: not known yet
    // Not initialized: pages that no message reaches cost nothing.
    std::unique_ptr<std::byte[]> input_{std::make_unique_for_overwrite<std::byte[]>(max_message)};
    std::unique_ptr<std::byte[]> output_{std::make_unique_for_overwrite<std::byte[]>(max_data)};
};

} // namespace inox::share
