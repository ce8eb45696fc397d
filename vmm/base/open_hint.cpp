// SPDX-License-Identifier: Apache-2.0
#include "vmm/base/open_hint.hpp"

#include <cerrno>

#include "vmm/base/outside/outside.hpp"

namespace inox {

std::string open_hint(int error, std::string otherwise) {
    switch (error) {
    case ELOOP:
        return "its symbolic links lead in a circle, or through more than 40: name the file itself";
    case ENAMETOOLONG:
        return "use a shorter path: a file's name has at most 255 bytes, a path 4095";
    case ENXIO:
        return "that is a socket, or a device without a driver: name a file";
    case outside::refused:
        return "start inox with --allow PATH: this file, or a folder that holds it";
    case outside::gone:
        return "nothing more can be opened in this run, and what is open works on: to open more, start inox again";
    case outside::unanswered:
        return "look at inox-broker, a child of inox: is it stopped, or does it wait for storage? Then try again";
    case ENOTDIR:
        return "check the path: a part of it before a '/' is not a folder";
    default:
        return otherwise;
    }
}

} // namespace inox
