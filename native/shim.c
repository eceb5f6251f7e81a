#include "shim.h"

#include <string.h>

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "tether") == 0)
        return tether_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "bound") == 0)
        return bound_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "init") == 0)
        return init_main(argc - 2, argv + 2);
    if (argc > 1 && strcmp(argv[1], "join") == 0)
        return join_main(argc - 2, argv + 2);
    fail_plain("usage: containai-shim tether|bound|init|join ...");
}
