#include "shim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int control_fd = -1;

void report_to(int control)
{
    control_fd = control;
}

static _Noreturn void end_with(const char *text)
{
    if (control_fd >= 0) {
        char message[512];
        int length = snprintf(message, sizeof message, "F%s", text);
        if (length > (int)sizeof message - 1)
            length = (int)sizeof message - 1;
        if (send(control_fd, message, (size_t)length, MSG_NOSIGNAL) >= 0)
            _exit(EXIT_REFUSED);
    }
    fprintf(stderr, "containai-shim: %s\n", text);
    _exit(EXIT_REFUSED);
}

void fail(const char *what)
{
    char text[400];
    snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    end_with(text);
}

void fail_plain(const char *what)
{
    end_with(what);
}
